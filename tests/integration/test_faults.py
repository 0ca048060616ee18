"""Jobs that are killed, lose a process or their loss: the same command finishes, and what it made equals an undisturbed run's.

Each row of the table in docs/reliability.md is a test here, in test_faults_disks.py or in test_faults_pipeline.py.
"""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from fewshot.config import parse
from fewshot.files import read_sealed
from fewshot.plan import Plan
from tests.integration.world import STAGES, World, one_line

pytestmark = pytest.mark.slow

KILLS = 5
"""Random moments of every stage."""


EXTENDED = {
    "stage2": {"tuned": {"method": "imprinting", "finetuning": {"epochs": 5, "batch_size": 16, "optimizer": {"lr": 0.01}}}},
    "evaluation": {
        "way": "all", "queries": "all", "shots": [2], "tasks": 3,
        "tests": [{"networks": ["gap"], "adaptation": "tuned", "populations": ["novel", "novel_in_all", "all"]}],
    },
}  # fmt: skip
"""Classifiers of all classes, fine-tuned, instead of implants."""


@pytest.fixture(scope="module")
def extended(starter, tiny, tmp_path_factory) -> World:
    """An undisturbed run whose second stage extends a classifier."""
    data = {key: value for key, value in tiny.items() if key != "activation_maps"} | EXTENDED
    return World(starter, Plan(parse(yaml.safe_load(yaml.safe_dump(data)))), tmp_path_factory.mktemp("extended"))


def kill_at_any_moment(world: World, stage: str, place: Path) -> None:
    """Five times, at random, and the same command finishes each time."""
    rng = random.Random(stage)
    killed, most = 0, world.seconds[stage]
    for _ in range(6 * KILLS):
        folder = world.fresh(stage, place)
        command = world.starter.start(folder, *world.command(stage))
        time.sleep(rng.uniform(0, most))
        if command.kill().status == -signal.SIGKILL:
            killed += 1
            world.finish(stage, folder)
        else:  # it was quicker
            most = command.seconds
        if killed == KILLS:
            return
    pytest.fail(f"killed {killed} times only; each of the others was quicker")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_any_moment(world, tmp_path, stage):
    kill_at_any_moment(world, stage, tmp_path / "run")


def test_an_extension_killed_at_any_moment(extended, tmp_path):
    kill_at_any_moment(extended, "adapt", tmp_path / "run")


def test_a_training_killed_again_and_again_resumes(world, tmp_path):
    folder = world.fresh("train", tmp_path / "run")
    state = folder / (str(world.plan.network_dir(world.plan.networks[0])) + ".state")
    for _ in range(3):
        before = state.stat().st_mtime_ns if state.exists() else 0
        command = world.starter.start(folder, *world.command("train"))
        while command.running and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.002)  # until it has got further than it was
        assert command.kill().status == -signal.SIGKILL
    done = world.starter.start(folder, *world.command("train")).wait()
    assert "resumed at iteration" in done.said
    world.finish("train", folder)


def test_a_dead_worker_process_is_one_line(world, new_starter, tmp_path):
    folder = world.fresh("prepare", tmp_path / "run")
    (folder / "die").touch()
    command = new_starter("dying").run(folder, *world.command("prepare"))
    assert one_line(command).startswith("error: a decoding process died")
    (folder / "die").unlink()
    world.finish("prepare", folder)


def stopped_in_training(command):
    """The command, stopped when it trains: the lock's file is there a moment before the lock, which it holds by then."""
    while command.running and not (command.log.exists() and "training dense" in command.said):
        time.sleep(0.001)
    os.kill(command.pid, signal.SIGSTOP)
    return command


def opened_by(command) -> set[Path]:
    """The files that a command has open."""
    found = set()
    for link in Path(f"/proc/{command.pid}/fd").glob("*"):
        with suppress(OSError):  # closed meanwhile
            found.add(link.readlink())
    return found


def test_a_second_process_on_the_same_output_is_refused(world, starter, new_starter, tmp_path):
    other = new_starter("fewshot.training")
    folder = world.fresh("train", tmp_path / "run")
    first = stopped_in_training(starter.start(folder, *world.command("train")))  # for longer than the second waits
    second = other.start(folder, *world.command("train"), log=tmp_path / "second.log").wait()
    os.kill(first.pid, signal.SIGCONT)
    assert "another process is working on it; wait" in one_line(second)
    assert first.wait().status == 0
    world.finish("train", folder)


def test_a_second_process_does_not_make_again_what_it_waited_for(world, starter, new_starter, tmp_path):
    other = new_starter("fewshot.training")
    folder = world.fresh("train", tmp_path / "run")
    first = stopped_in_training(starter.start(folder, *world.command("train")))
    second = other.start(folder, *world.command("train"), log=tmp_path / "second.log")
    lock = (folder / world.plan.network_dir(world.plan.networks[0])).with_name(".seed0.lock")
    while second.running and lock not in opened_by(second):
        time.sleep(0.01)
    time.sleep(0.2)  # it has asked for the lock by now
    os.kill(first.pid, signal.SIGCONT)
    assert (first.wait().status, second.wait().status) == (0, 0)
    assert "model.json was made by another process meanwhile" in second.said
    world.finish("train", folder)


def test_a_loss_that_is_not_finite_stops_with_the_iteration_and_the_last_good_state(world, tmp_path):
    folder = world.fresh("train", tmp_path / "run")
    data = yaml.safe_load((folder / "run.yaml").read_text())
    data["stage1"]["networks"]["dense"]["training"]["optimizer"]["lr"] = 1e30
    broken = Plan(parse(data))
    (folder / "broken.yaml").write_text(yaml.safe_dump(data))
    command = world.starter.run(folder, "train", "broken.yaml", "--threads", "1")
    line = one_line(command)
    assert "the parameters are not finite at iteration 2; lower stage1.training.optimizer.lr" in line
    state = Path(str(broken.network_dir(broken.networks[0])) + ".state")
    assert str(state) in line
    if (folder / state).exists():  # of an iteration before
        assert read_sealed(folder / state)
        (folder / state).unlink()
    (folder / "broken.yaml").unlink()
    world.finish("train", folder)
