import errno
import pickle

import numpy as np
import pytest

from fewshot import errors
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


@pytest.mark.parametrize(
    ("error", "of_the_machine"),
    [
        (PermissionError(errno.EACCES, "no"), True), (OSError(errno.EIO, "no"), True), (MemoryError(), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), False), (OSError("truncated"), False),
        (ValueError("no"), False), (FileNotFoundError(errno.ENOENT, "no"), False),
    ],
)  # fmt: skip
def test_what_tells_of_the_machine_and_not_of_a_file(error, of_the_machine):
    assert errors.of_the_machine(error) == of_the_machine


def unreadable(*_, **__):
    raise PermissionError(errno.EACCES, "Permission denied", "file")


def test_what_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch, tiny_store):
    """Whoever is told to delete it may lose days of training."""
    from fewshot import episodes, files, resume
    from fewshot.data.store import open_store

    (tmp_path / "x.state").write_bytes(b"")
    monkeypatch.setattr(resume, "read_sealed", unreadable)
    with pytest.raises(PermissionError):
        resume.State(tmp_path / "x.state", "").load(None, None, None)
    monkeypatch.setattr(resume, "read_sealed", lambda _: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        resume.State(tmp_path / "x.state", "").load(None, None, None)
    monkeypatch.setattr(np, "load", unreadable)
    with pytest.raises(PermissionError):
        episodes.load(tmp_path / "x.npz")
    with pytest.raises(PermissionError):
        files.load_array(tmp_path / "x.npy")
    with pytest.raises(PermissionError):
        open_store(tiny_store.path)
