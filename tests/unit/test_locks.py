import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from fewshot.errors import DataError
from fewshot.locks import only_one, replacing_folder, scratch_folder, state_path, tidy


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


def test_folders_made_for_an_output_that_does_not_come_go_again(tmp_path):
    for frame in (only_one, scratch_folder, replacing_folder):
        with pytest.raises(RuntimeError), frame(tmp_path / "resources" / "store" / "images"):
            assert (tmp_path / "resources" / "store").is_dir()
            raise RuntimeError
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "resources").mkdir()
    with only_one(tmp_path / "resources" / "store" / "images"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "resources"]  # which stood there before
    with only_one(tmp_path / "resources" / "store" / "images") as _:
        (tmp_path / "resources" / "store" / "images").mkdir()
    assert (tmp_path / "resources" / "store" / "images").is_dir()


def test_a_folder_that_another_process_takes_away_is_made_again(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    folder.mkdir()
    opened = Path.open

    def taken_away(path, *arguments):
        if folder.is_dir():
            monkeypatch.setattr(Path, "open", opened)
            folder.rmdir()
        return opened(path, *arguments)

    monkeypatch.setattr(Path, "open", taken_away)
    with only_one(folder / "images"):
        assert (folder / ".images.lock").exists()


HOLD = """
import sys
import tempfile
from pathlib import Path
from fewshot.locks import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_work_on_one_output(tmp_path, monkeypatch):
    monkeypatch.setattr("fewshot.locks.LINGER", 0.1)
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
from fewshot.locks import only_one, scratch_folder
with only_one(Path(sys.argv[1])), scratch_folder(Path(sys.argv[1])):
    if os.fork():
        os.kill(os.getpid(), 9)
    time.sleep(0.5)
    os._exit(0)
"""


def test_the_workers_of_a_killed_job_are_waited_for(tmp_path):
    subprocess.run([sys.executable, "-c", LEAVE_A_WORKER, str(tmp_path / "out")], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    start = time.time()
    with only_one(tmp_path / "out") as waited, scratch_folder(tmp_path / "out"):
        assert start <= waited < time.time()
        assert len(list(tmp_path.iterdir())) == 2  # ours, and none of the one before
    assert list(tmp_path.iterdir()) == []


def whole(folder):
    """An output with its record."""
    out = folder / "seed0"
    out.mkdir()
    (out / "model.json").write_text("{}")
    return out


def left_state(out, folder):
    """What a job keeps beside its output to go on from: a folder or a file."""
    state = state_path(out)
    if folder:
        state.mkdir()
        (state / "features.npy").write_text("x")
    else:
        state.write_text("x")
    return state


@pytest.mark.parametrize("folder", [True, False])
def test_what_a_killed_job_left_beside_its_whole_output_is_removed(tmp_path, folder, caplog):
    caplog.set_level("INFO", "fewshot.locks")
    out = whole(tmp_path)
    left_state(out, folder)
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
    state = left_state(out, folder)
    tidy(out / "model.json")
    assert state.exists()


def test_what_another_process_is_using_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("fewshot.locks.LINGER", 0.1)
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


def at_once(work, workers=8):
    """The same in several threads, a lock each; what went wrong."""
    wrong = []

    def one():
        try:
            work()
        except Exception as error:  # all of them are looked at
            wrong.append(error)

    threads = [threading.Thread(target=one) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def test_many_that_want_one_output_are_never_two_at_once_and_none_fails(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(300):
            with only_one(tmp_path / "out"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    assert at_once(work) == []
    assert max(most) == 1
    assert len(most) == 2400


def test_scratch_folders_that_are_made_side_by_side_are_not_taken_for_left_ones(tmp_path):
    def work():
        for _ in range(100):
            with scratch_folder(tmp_path / "out") as scratch:
                (scratch / "file").write_text("x")

    assert at_once(work) == []
    assert list(tmp_path.iterdir()) == []


def test_on_a_file_system_without_locks_jobs_run_and_nothing_of_others_is_removed(tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with scratch_folder(tmp_path / "out") as first, scratch_folder(tmp_path / "out") as second:
        assert first.is_dir()
        assert second.is_dir()
    with only_one(tmp_path / "out") as waited, replacing_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
    assert waited is None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_locks_hold_and_leftovers_go_where_flock_is_that_of_nfs(tmp_path, monkeypatch):
    """Made of POSIX locks: a shared one wants a file that can be read, an exclusive one a file that can be written."""
    monkeypatch.setattr("fcntl.flock", fcntl.lockf)
    (tmp_path / ".out.abc.partial").mkdir()
    (tmp_path / ".out.abc.partial/.lock").touch()
    with only_one(tmp_path / "out"), replacing_folder(tmp_path / "out") as folder:
        assert not (tmp_path / ".out.abc.partial").exists()
        (folder / "file").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_a_neighbour_takes_away_is_made_again(tmp_path, monkeypatch):
    """Another process that has nothing to put there removes the folder both made, between this one's two steps."""
    out, made = tmp_path / "new" / "out", tempfile.mkdtemp

    def taken_away(**names):
        monkeypatch.setattr(tempfile, "mkdtemp", made)
        out.parent.rmdir()
        return made(**names)

    monkeypatch.setattr(tempfile, "mkdtemp", taken_away)
    with scratch_folder(out) as scratch:
        assert scratch.parent == out.parent
