import json
import os

import numpy as np
import pytest

from fewshot import files
from fewshot.errors import DataError
from fewshot.files import (
    atomic,
    file_hash,
    read_json,
    read_record,
    read_sealed,
    save_array,
    write_record,
    write_sealed,
)


def test_missing_and_damaged_json_are_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.json: missing"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_json(tmp_path / "x.json")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_but_nothing_of_another_node(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    monkeypatch.setattr(files, "_alive", lambda process: False)
    with monkeypatch.context() as other, atomic(path) as own:
        other.setattr("platform.node", lambda: "node-7.example.org")
        with pytest.raises(KeyboardInterrupt), atomic(path) as theirs:
            left = theirs.with_name(theirs.name.replace(f".{os.getpid()}.", ".1."))
            theirs.rename(left) if theirs.exists() else left.touch()
            raise KeyboardInterrupt
        own.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, left])
    with atomic(path) as own:
        own.write_text("again")
    assert left.exists()
    monkeypatch.setattr("platform.node", lambda: "node-7.example.org")
    with atomic(path) as own:
        own.write_text("here")
    assert list(tmp_path.iterdir()) == [path]


def test_an_array_is_written_as_numpy_would(tmp_path, rng):
    for array in (rng.random((3, 4, 5)), np.zeros((0, 3), np.float32), np.arange(7), rng.random((4, 6)).T):
        np.save(tmp_path / "theirs.npy", np.ascontiguousarray(array))
        save_array(tmp_path / "ours.npy", array)
        assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_every_flipped_bit_of_a_record_is_found_or_changes_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_record(path, {"name": "Zürich", "numbers": {5: (1, 2.5)}, "none": None})
    original, wanted = path.read_bytes(), read_record(path)
    assert wanted == {"name": "Zürich", "numbers": {"5": [1, 2.5]}, "none": None, "files": {}}
    unnoticed, messages = 0, set()
    for place in range(len(original)):
        for bit in range(8):
            changed = bytearray(original)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                assert read_record(path) == wanted  # white space, and the case of an escape
                unnoticed += 1
            except DataError as error:
                messages.add(str(error))
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in messages)
    assert unnoticed < 8 * len(original) // 20


def test_a_record_vouches_for_the_files_beside_it(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "record.json"
    write_record(path, {"x": 1}, ["a", "b"])
    assert read_record(path, ["a", "b"])["x"] == 1
    status = (tmp_path / "b").stat()
    (tmp_path / "b").write_text("c")
    os.utime(tmp_path / "b", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(DataError, match=r"b: damaged \(its hash is not the one in record\.json\); do so"):
        read_record(path, ["a", "b"], "do so")
    assert read_record(path, ["a"])["x"] == 1
    (tmp_path / "a").unlink()
    with pytest.raises(DataError, match=r"a: missing beside its record\.json"):
        read_record(path, ["a"])


def test_a_file_is_hashed_once_in_a_process(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("a")
    write_record(tmp_path / "record.json", {}, ["a"])
    hashed = []
    monkeypatch.setattr(files, "file_hash", lambda path: hashed.append(path) or file_hash(path))
    for _ in range(3):
        read_record(tmp_path / "record.json", ["a"])
    assert hashed == [tmp_path / "a"]


def test_a_record_without_a_seal_is_of_an_earlier_version(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"x": 1}))
    with pytest.raises(DataError, match="has no seal"):
        read_record(tmp_path / "a.json")


def test_sealed_bytes(tmp_path):
    write_sealed(tmp_path / "a", b"content")
    assert read_sealed(tmp_path / "a") == b"content"
    whole = (tmp_path / "a").read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", whole[:-1] + b"T", b"x" + whole[1:]):
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(ValueError, match="hash"):
            read_sealed(tmp_path / "a")
