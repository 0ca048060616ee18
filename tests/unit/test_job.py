import errno
import logging
import os
import signal
import sys

import pytest

from fewshot.errors import FewshotError
from fewshot.job import job, until_terminated


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


def test_a_fault_of_ours_keeps_its_traceback(tmp_path, tiny_config):
    with pytest.raises(ZeroDivisionError), job(tiny_config.as_dict(), str(tmp_path / "a.log")):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("number", "cure"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "make the place writable"), (errno.EIO, "disk")]
)
@pytest.mark.parametrize("name", ["results/x.npy", None])
def test_what_is_wrong_with_the_machine_is_one_line(tmp_path, tiny_config, number, cure, name):
    with pytest.raises(SystemExit) as caught, job(tiny_config.as_dict(), str(tmp_path / "a.log")):
        raise OSError(number, os.strerror(number), name)
    assert caught.value.code == 1
    (line,) = (tmp_path / "a.log").read_text().splitlines()
    assert line.startswith(f"error: {name or 'a file under /'}")
    assert os.strerror(number) in line
    assert cure in line


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


def test_a_process_left_alone_goes_on():
    with until_terminated() as asked:
        assert not asked()
