import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fewshot import files
from fewshot.errors import DataError
from fewshot.files import (
    atomic,
    file_hash,
    only_one,
    read_json,
    read_record,
    read_sealed,
    replacing_folder,
    save_array,
    scratch_folder,
    state_path,
    tidy,
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


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "out"
    with replacing_folder(folder) as building:
        (building / "one").write_text("1")
    with pytest.raises(RuntimeError), replacing_folder(folder) as building:
        (building / "two").write_text("2")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["one"]
    with replacing_folder(folder) as building:
        (building / "three").write_text("3")
    assert [path.name for path in folder.iterdir()] == ["three"]
    assert list(tmp_path.iterdir()) == [folder]


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


HOLD = """
import sys
from pathlib import Path
from fewshot.files import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_work_on_one_output(tmp_path, monkeypatch):
    monkeypatch.setattr("fewshot.files.LINGER", 0.1)
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(DataError, match=r"out: another process is working on it"), only_one(tmp_path / "out"):
        pass
    other.kill()  # the lock goes with the process
    other.communicate()
    with only_one(tmp_path / "out"), only_one(tmp_path / "another"):
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


LEAVE_A_WORKER = """
import os, sys, time
from pathlib import Path
from fewshot.files import only_one, scratch_folder
with only_one(Path(sys.argv[1])), scratch_folder(Path(sys.argv[1])):
    if os.fork():
        os.kill(os.getpid(), 9)
    time.sleep(0.5)
    os._exit(0)
"""


def test_the_workers_of_a_killed_job_are_waited_for(tmp_path):
    subprocess.run([sys.executable, "-c", LEAVE_A_WORKER, str(tmp_path / "out")], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with only_one(tmp_path / "out"), scratch_folder(tmp_path / "out"):
        assert len(list(tmp_path.iterdir())) == 2  # ours, and none of the one before
    assert list(tmp_path.iterdir()) == []


def whole(folder):
    """An output with its record."""
    out = folder / "seed0"
    out.mkdir()
    (out / "model.json").write_text("{}")
    return out


@pytest.mark.parametrize("folder", [True, False])
def test_what_a_killed_job_left_beside_its_whole_output_is_removed(tmp_path, folder, caplog):
    caplog.set_level("INFO", "fewshot.files")
    out = whole(tmp_path)
    state = state_path(out)
    if folder:
        state.mkdir()
        (state / "features.npy").write_text("x")
    else:
        state.write_text("x")
    (tmp_path / ".seed0.lock").touch()
    (tmp_path / ".seed0.abc.partial").mkdir()
    (tmp_path / ".seed0.abc.partial/.lock").touch()
    os.utime(out / "model.json")
    tidy(out / "model.json")
    assert [path.name for path in tmp_path.iterdir()] == ["seed0"]
    assert (out / "model.json").exists()
    assert [record.getMessage() for record in caplog.records] == [
        f"removed {tmp_path / name}, left by a job that was killed" for name in ("seed0.state", ".seed0.abc.partial")
    ]
    caplog.clear()
    tidy(out / "model.json")
    assert caplog.records == []


@pytest.mark.parametrize("folder", [True, False])
def test_the_state_of_a_job_that_makes_its_output_again_is_kept(tmp_path, folder):
    out = whole(tmp_path)
    os.utime(out / "model.json", (1, 1))
    state = state_path(out)
    if folder:
        state.mkdir()
        (state / "progress.json").write_text("{}")
    else:
        state.write_text("x")
    tidy(out / "model.json")
    assert state.exists()


def test_what_another_process_is_using_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("fewshot.files.LINGER", 0.1)
    out = tmp_path / "seed0"
    state_path(out).write_text("x")
    out.mkdir()
    (out / "model.json").write_text("{}")
    with only_one(out), pytest.raises(DataError, match="another process is working on it"):
        tidy(out / "model.json")
    assert state_path(out).exists()
    with scratch_folder(out) as scratch:
        tidy(out / "model.json")
        assert scratch.is_dir()
    assert not state_path(out).exists()
