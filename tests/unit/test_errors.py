import pickle

from fewshot.errors import LONGEST, DataError


def test_whatever_a_message_names_it_stays_one_line_without_control_characters():
    said = str(DataError("split.csv: the columns are a\r\nb\x1b[31m, \u2028; it needs class and part"))
    assert said == "split.csv: the columns are a\\r\\nb\\x1b[31m, \\u2028; it needs class and part"


def test_of_a_text_that_nobody_would_read_the_middle_is_left_out():
    said = str(DataError(f"file: {'x' * 10_000}; the cure"))
    assert len(said) <= LONGEST
    assert said.startswith("file: xxx")
    assert said.endswith("xxx; the cure")


def test_a_message_survives_the_way_out_of_a_worker_process():
    error = DataError("ä\n" + "x" * 5000)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
