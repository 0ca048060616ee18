import errno
import logging
import os
import signal
import subprocess
import sys

import pytest

from fewshot.errors import FewshotError
from fewshot.job import end_if_asked, job, until_terminated
from fewshot.provenance import ROOT


def test_everything_said_goes_to_the_log(tmp_path, tiny_config, capsys):
    with job(tiny_config.as_dict(), str(tmp_path / "logs/a.log")) as plan:
        logging.getLogger("x").info("spoken")
        print("progress", file=sys.stderr)
    assert plan.config.run == "tiny"
    text = (tmp_path / "logs/a.log").read_text()
    assert "spoken" in text
    assert "progress" in text
    assert "spoken" in capsys.readouterr().err


def test_a_users_mistake_is_one_line_and_status_1(tmp_path, tiny_config):
    with pytest.raises(SystemExit) as caught, job(tiny_config.as_dict(), str(tmp_path / "a.log")):
        raise FewshotError("thing: cure")
    assert caught.value.code == 1
    assert (tmp_path / "a.log").read_text() == "error: thing: cure\n"


def test_a_mistake_in_the_config_too(tmp_path, tiny_config):
    bad = tiny_config.as_dict() | {"devise": 1}
    with pytest.raises(SystemExit), job(bad, str(tmp_path / "a.log")):
        pass
    assert "devise: unknown key" in (tmp_path / "a.log").read_text()


def test_the_package_of_another_checkout_is_refused(tmp_path, tiny_config, monkeypatch, capsys):
    """As in an environment that two checkouts share, and the other one was installed into."""
    monkeypatch.chdir(tmp_path)
    with job(tiny_config.as_dict()):
        pass  # no checkout at all
    (tmp_path / "src").mkdir()
    (tmp_path / "src/fewshot").symlink_to(ROOT)
    with job(tiny_config.as_dict()):
        pass
    (tmp_path / "src/fewshot").unlink()
    (tmp_path / "src/fewshot").mkdir()
    with pytest.raises(SystemExit), job(tiny_config.as_dict()):
        pass
    assert f"this job's Python has the package of another checkout, {ROOT}; install this one" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback_in_the_log_too(tmp_path, tiny_config):
    with pytest.raises(ZeroDivisionError), job(tiny_config.as_dict(), str(tmp_path / "a.log")):
        _ = 1 / 0
    text = (tmp_path / "a.log").read_text()
    assert "_ = 1 / 0" in text
    assert text.count("Traceback (most recent call last)") == 1
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_a_fault_of_ours_is_told_where_the_log_cannot_be_written(tiny_config):
    with pytest.raises(ZeroDivisionError), job(tiny_config.as_dict(), "/dev/full"):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free some space"), (errno.EROFS, "make the place writable"), (errno.EIO, "disk"),
        (errno.EACCES, "the right to read and write"), (errno.EEXIST, "stands in its place"), (errno.ENOTDIR, "remove it"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["results/x.npy", None])
def test_what_is_wrong_with_the_machine_is_one_line(tmp_path, tiny_config, number, cure, name):
    with pytest.raises(SystemExit) as caught, job(tiny_config.as_dict(), str(tmp_path / "a.log")):
        raise OSError(number, os.strerror(number), name)
    assert caught.value.code == 1
    (line,) = (tmp_path / "a.log").read_text().splitlines()
    assert line.startswith(f"error: {name or 'a file under /'}")
    assert os.strerror(number) in line
    assert cure in line


OUT_OF_MEMORY = """
import resource, sys
import numpy as np
import torch
from fewshot.job import user_errors

def asked(kind):
    if kind == "numpy":
        return np.ones(1 << 30)
    if kind == "torch":
        return torch.ones(1 << 30)
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")  # no such device need be here

pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30),) * 2)
ends = []
for kind in ("numpy", "torch", "cuda"):
    try:
        with user_errors():
            asked(kind)
    except SystemExit as end:
        ends.append(end.code)
sys.exit(ends != [1, 1, 1])
"""


def test_memory_that_is_not_there_is_one_line():
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: out of memory (") and "mem_mb in profiles/" in line for line in lines), lines


def test_a_log_that_cannot_be_written_does_not_end_the_job(tiny_config):
    with job(tiny_config.as_dict(), "/dev/full") as plan:
        for _ in range(1000):
            logging.getLogger("x").warning("words " * 100)
            print("more", file=sys.stderr, flush=True)
    assert plan.config.run == "tiny"


def test_a_process_asked_to_end_finishes_its_step_and_ends_as_terminated():
    steps, before = [], signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught, until_terminated() as asked:
        for step in range(9):
            steps.append(step)
            if step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            if asked():
                break
    assert steps == [0, 1, 2, 3]
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_process_asked_to_end_after_its_last_step_is_through(monkeypatch):
    """Outputs that are being written then are whole: a queue that saw 143 would throw the training away."""
    monkeypatch.setattr("fewshot.job._LATE", [])
    end_if_asked()
    with until_terminated() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit, match="143"):
        end_if_asked()  # a process with more to do ends here


def test_a_process_left_alone_goes_on():
    with until_terminated() as asked:
        assert not asked()
