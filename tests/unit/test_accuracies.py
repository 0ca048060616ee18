import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from fewshot import accuracies
from fewshot.errors import DataError


def test_a_row_a_task_and_a_column_a_population(tmp_path):
    path = tmp_path / "a.parquet"
    accuracies.save(path, {"novel": np.array([50.0, 60.0]), "both": np.array([1.0, 2.0])})
    assert pd.read_parquet(path).to_dict("list") == {"task": [0, 1], "novel": [50.0, 60.0], "both": [1.0, 2.0]}
    found = accuracies.load(path, "cure")
    assert {name: values.tolist() for name, values in found.items()} == {"novel": [50.0, 60.0], "both": [1.0, 2.0]}


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"a\.parquet: missing; run again"):
        accuracies.load(tmp_path / "a.parquet", "run again")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"task": [0, 2], "novel": [1.0, 2.0]}, "its tasks are not numbered"),
        ({"novel": [1.0, 2.0]}, "not a table of per-task results"),
        ({"task": [0, 1], "novel": ["a", "b"]}, "not a table of per-task results"),
        ({"task": [0, 1], "novel": [1.0, 100.1]}, "column novel is not all percent"),
        ({"task": [0, 1], "novel": [-0.1, 1.0]}, "column novel is not all percent"),
        ({"task": [0, 1], "novel": [float("nan"), 1.0]}, "column novel is not all percent"),
    ],
)
def test_what_is_no_such_table_is_one_line(tmp_path, columns, words):
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"a\.parquet: {words}.*; run again"):
        accuracies.load(tmp_path / "a.parquet", "run again")


def test_a_table_whose_description_names_no_type_is_read_all_the_same_or_refused(tmp_path):
    """pandas' own description of the columns, in which a fuzzer wrote a type that numpy does not know, is not asked."""
    path = tmp_path / "a.parquet"
    accuracies.save(path, {"novel": np.array([50.0, 60.0])})
    table = parquet.read_table(path)
    described = {key: value.replace(b'"int64"', b'"i^t64"') for key, value in table.schema.metadata.items()}
    assert described != table.schema.metadata
    parquet.write_table(table.replace_schema_metadata(described), path)
    assert accuracies.load(path, "run again")["novel"].tolist() == [50.0, 60.0]


def test_a_file_of_kilobytes_that_unpacks_to_gigabytes_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    monkeypatch.setattr(accuracies, "VALUES", 3_000_000)
    parquet.write_table(pa.table({"task": np.arange(1_000_000), "novel": np.zeros(1_000_000)}), path)
    assert len(accuracies.load(path, "run again")["novel"]) == 1_000_000
    monkeypatch.setattr(accuracies, "VALUES", 1_999_999)
    monkeypatch.setattr(parquet.ParquetFile, "read", lambda file: pytest.fail("it was read"))
    with pytest.raises(DataError, match="not a table of per-task results"):
        accuracies.load(path, "run again")


FLIP = """
import sys
from pathlib import Path
from fewshot import accuracies
from fewshot.errors import DataError
path = Path(sys.argv[1])
whole, taken = path.read_bytes(), 0
for place in range(len(whole)):
    for bits in (0x01, 0x10, 0x80):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1:])
        try:
            accuracies.load(path, "run again")
            taken += 1
        except DataError:
            pass
print(taken, 3 * len(whole))
"""


def test_no_flipped_bit_ends_the_process(tmp_path):
    """As pyarrow does where its descriptions of columns are asked for and are not what they should be."""
    accuracies.save(tmp_path / "a.parquet", {"novel": np.array([50.0, 60.0])})
    command = [sys.executable, "-c", FLIP, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    taken, tried = map(int, done.stdout.split())
    assert 0 < taken < tried


def test_all_or_nothing_is_a_percentage_too(tmp_path):
    accuracies.save(tmp_path / "a.parquet", {"novel": np.array([0.0, 100.0])})
    assert accuracies.load(tmp_path / "a.parquet", "cure")["novel"].tolist() == [0.0, 100.0]


def test_tasks_in_another_order_are_refused(tmp_path):
    pd.DataFrame({"task": [1, 0], "novel": [1.0, 2.0]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="its tasks are not numbered 0, 1, 2 and so on"):
        accuracies.load(tmp_path / "a.parquet", "run again")
