"""Faults in every stage: after the cause is gone the same command finishes, and what it made equals an undisturbed run's.

Each row of the table in docs/reliability.md is a test here or in test_faults_pipeline.py.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from fewshot.config import parse
from fewshot.files import read_sealed
from fewshot.plan import Plan

pytestmark = pytest.mark.slow

STAGES = ("prepare", "episodes", "train", "extract", "adapt", "evaluate", "assemble")
KILLS = 5
"""Random moments of every stage."""


@pytest.fixture(scope="module")
def plan(tiny):
    """The run of seconds; its training saves its state at every iteration and goes on for some."""
    data = yaml.safe_load(yaml.safe_dump(tiny))
    data["stage1"]["training"] |= {"iterations": 30, "save_every": 0.001, "log_every": 5}
    data["stage1"]["training"]["validation"]["every"] = 10
    data["stage1"]["networks"].pop("gap")
    data["evaluation"]["tests"] = [
        test | {"populations": ["novel", "base", "both"]} for test in data["evaluation"]["tests"][1:]
    ]
    data["evaluation"]["tests"][1].pop("populations")
    data["evaluation"]["tests"][1]["tasks"] = 10
    data.pop("activation_maps")
    return Plan(parse(data))


def contents(folder: Path) -> dict[str, bytes]:
    """What a run made and left: every file with numbers, without those that tell times."""
    told = {"model.json", "adapt.json", "settings.json", "metrics.jsonl", "meta.json", "report.html"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in told
        and path.suffix != ".svg"
        and path.stem not in ("networks", "index")  # seconds of a training, in the tables
    }


class World:
    """Folders as they are before and after every stage of an undisturbed run."""

    def __init__(self, starter, plan, folder: Path) -> None:
        self.starter, self.plan, self.folder = starter, plan, folder
        self.seconds: dict[str, float] = {}
        current = folder / "current"
        (current / "config").mkdir(parents=True)
        shutil.copy(Path(__file__).parents[2] / "config/published.csv", current / "config")
        (current / "run.yaml").write_text(yaml.safe_dump(plan.config.as_dict()))
        for stage in STAGES:
            shutil.copytree(current, folder / f"before-{stage}")
            done = starter.run(current, *self.command(stage))
            assert done.status == 0, done.said
            self.seconds[stage] = done.seconds
            print(stage, done.seconds)
            shutil.copytree(current, folder / f"after-{stage}")
        current.rename(folder / "whole")

    def command(self, stage: str) -> list[str]:
        return [
            stage,
            "run.yaml",
            *{"prepare": ["--workers", "2"], "episodes": [], "assemble": []}.get(stage, ["--threads", "1"]),
        ]

    def fresh(self, stage: str, place: Path) -> Path:
        """A folder as it is before a stage."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / f"before-{stage}", place)
        return place

    def finish(self, stage: str, folder: Path) -> None:
        """The same command once more must make what the undisturbed one made, and leave nothing else."""
        done = self.starter.run(folder, *self.command(stage))
        assert done.status == 0, done.said
        found, wanted = contents(folder), contents(self.folder / f"after-{stage}")
        assert set(found) == set(wanted)
        assert [name for name in wanted if found[name] != wanted[name]] == []


@pytest.fixture(scope="module")
def world(starter, plan, tmp_path_factory):
    return World(starter, plan, tmp_path_factory.mktemp("world"))


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_any_moment(world, tmp_path, stage):
    rng = random.Random(stage)
    killed, most = 0, world.seconds[stage]
    for _ in range(3 * KILLS):
        folder = world.fresh(stage, tmp_path / "run")
        command = world.starter.start(folder, *world.command(stage))
        time.sleep(rng.uniform(0, most))
        if command.kill().status == -signal.SIGKILL:
            killed += 1
            world.finish(stage, folder)
        else:  # it was quicker
            most = command.seconds
        if killed == KILLS:
            return
    assert killed >= KILLS // 2


def test_a_training_killed_again_and_again_resumes(world, tmp_path, plan):
    folder = world.fresh("train", tmp_path / "run")
    state = folder / (str(plan.network_dir(plan.networks[0])) + ".state")
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


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB of its own, and a way to mount it anew."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(*options: str) -> int:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(("size=8m", *options)), "tmpfs", str(disk)]
        return subprocess.run(command, check=False).returncode

    if mount():
        pytest.skip("no right to mount a small disk here")
    yield disk, mount
    subprocess.run(["umount", str(disk)], check=True)


def one_line(command) -> str:
    """The one line of a command that failed for a reason that a user can mend."""
    assert command.status == 1, command.said
    assert "Traceback" not in command.said, command.said
    (line,) = [line for line in command.said.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(world, small_disk, stage):
    disk, _ = small_disk
    needed = sum(path.stat().st_size for path in (world.folder / f"after-{stage}").rglob("*") if path.is_file())
    needed -= sum(path.stat().st_size for path in (world.folder / f"before-{stage}").rglob("*") if path.is_file())
    for share in (0.0, 0.3, 0.7):
        folder = world.fresh(stage, disk / "run")
        before = contents(folder)
        filler = disk / "filler"
        with filler.open("wb") as file:
            room = os.statvfs(disk)
            file.write(bytes(max(0, room.f_bavail * room.f_frsize - int(share * needed) // 4096 * 4096)))
        line = one_line(world.starter.start(folder, *world.command(stage), log=disk.parent / "log").wait())
        assert "No space left on device; free some space" in line
        left = contents(folder)
        whole = contents(world.folder / f"after-{stage}")
        for name in set(left) - set(before):
            assert ".state" in name or left[name] == whole[name], f"{name} is half-written"
        filler.unlink()
        world.finish(stage, folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("stage", STAGES)
def test_a_read_only_folder_is_one_line(world, small_disk, stage):
    disk, mount = small_disk
    folder = world.fresh(stage, disk / "run")
    assert mount("remount", "ro") == 0
    line = one_line(world.starter.start(folder, *world.command(stage), log=disk.parent / "log").wait())
    assert "Read-only file system; make the place writable" in line
    assert mount("remount", "rw") == 0
    world.finish(stage, folder)


# --- damaged files ----------------------------------------------------------------------------------------------------


def harmed(data: bytes, how: str, rng: random.Random) -> bytes:
    if how == "cut":
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


READ_BY = {
    "images/images.npy": "train",
    "images/labels.npy": "train",
    "images/classes.csv": "episodes",
    "images/images.csv": "extract",
    "images/meta.json": "train",
    "episodes/*.npz": "evaluate",
    "model.safetensors": "extract",
    "model.json": "extract",
    "seed0/metrics.jsonl": "assemble",
    "features-test/features.npy": "evaluate",
    "features-test/rows.npy": "evaluate",
    "features-test/features.json": "evaluate",
    "adapted/*/*/features.npy": "evaluate",
    "adapted/*/*/adapt.json": "evaluate",
    "evaluations/*/*/*/*.parquet": "assemble",
    "evaluations/*/*/*/settings.json": "assemble",
}
"""File -> a stage that reads it."""


@pytest.mark.parametrize("pattern", READ_BY)
def test_a_damaged_file_is_named(world, tmp_path, pattern):
    stage = READ_BY[pattern]
    rng = random.Random(pattern)
    whole = world.folder / "whole"
    files = sorted(
        path.relative_to(whole) for path in whole.rglob(pattern) if "adapted" in pattern or "adapted" not in path.parts
    )
    assert files
    force = [] if stage == "assemble" else ["--force"]
    noticed = 0
    for how in ("flipped", "flipped", "cut"):
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        file = rng.choice(files)
        (folder / file).write_bytes(harmed((whole / file).read_bytes(), how, rng))
        command = world.starter.run(folder, *world.command(stage), *force)
        if command.status == 0:  # white space in JSON, the date of a member of a zip file: nothing that counts
            assert how == "flipped"
            assert file.suffix in (".json", ".npz")
        else:
            assert str(file) in one_line(command) or str(file.parent) in one_line(command)
            noticed += 1
        if how != "cut":
            continue
        # the cure that the line names: away with it, and run again
        if file.parts[-2] == "images" or file.parts[0] == "results":
            shutil.rmtree((folder / file).parent)
        else:
            (folder / file).unlink()
            for record in ("model.json", "features.json", "adapt.json"):
                (folder / file.parent / record).unlink(missing_ok=True)
        again = world.starter.run(folder, "run", "run.yaml", "--threads", "1")
        assert again.status == 0, again.said
        assert contents(folder) == contents(whole)
    assert noticed >= 2


@pytest.mark.parametrize("stage", ["train", "adapt"])
def test_a_damaged_state_is_named_and_deleting_it_starts_anew(world, tmp_path, plan, stage, monkeypatch):
    rng = random.Random(stage)
    made = plan.network_dir(plan.networks[0]) if stage == "train" else plan.adapted_dir(plan.adaptations[0])
    tries = 0
    for how in ("flipped", "cut", "flipped"):
        folder = world.fresh(stage, tmp_path / "run")
        state = folder / (str(made) + ".state")
        ready = state if stage == "train" else state / "progress.json"
        command = world.starter.start(folder, *world.command(stage))
        while command.running and not ready.exists():
            time.sleep(0.002)
        if command.kill().status == 0:
            continue  # it was quicker
        file = state if stage == "train" else rng.choice(sorted(state.iterdir()))
        finished = np.load(state / "features.npy", mmap_mode="r").nbytes if file.name == "features.npy" else 0
        data = file.read_bytes()
        if finished and how == "flipped":  # a bit of a finished task, not of one that will be written anew
            data = data[:200] + bytes([data[200] ^ 1]) + data[201:]
        file.write_bytes(harmed(data, how, rng) if not finished or how != "flipped" else data)
        again = world.starter.run(folder, *world.command(stage))
        if again.status == 0:
            assert how == "flipped"
            assert file.suffix == ".json"
        else:
            assert str(file.relative_to(folder)) in one_line(again) or str(state.relative_to(folder)) in one_line(again)
            shutil.rmtree(state) if state.is_dir() else state.unlink()
        tries += 1
        world.finish(stage, folder)
    assert tries >= 2


# --- others ------------------------------------------------------------------------------------------------------------


def test_a_second_process_on_the_same_output_is_refused(world, starter, new_starter, tmp_path):
    other = new_starter("fewshot.training")
    folder = world.fresh("train", tmp_path / "run")
    first = starter.start(folder, *world.command("train"))
    lock = folder / world.plan.network_dir(world.plan.networks[0]).parent / ".seed0.lock"
    while first.running and not lock.exists():
        time.sleep(0.001)
    second = other.start(folder, *world.command("train"), log=tmp_path / "second.log").wait()
    assert "another process is working on it; wait" in one_line(second)
    assert first.wait().status == 0
    world.finish("train", folder)


def test_a_loss_that_is_not_finite_stops_with_the_iteration_and_the_last_good_state(world, plan, tmp_path):
    folder = world.fresh("train", tmp_path / "run")
    data = yaml.safe_load((folder / "run.yaml").read_text())
    data["stage1"]["networks"]["dense"]["training"]["optimizer"]["lr"] = 1e30
    broken = Plan(parse(data))
    (folder / "broken.yaml").write_text(yaml.safe_dump(data))
    command = world.starter.run(folder, "train", "broken.yaml", "--threads", "1")
    line = one_line(command)
    assert "the loss is nan at iteration 5; lower stage1.training.optimizer.lr" in line
    state = Path(str(broken.network_dir(broken.networks[0])) + ".state")
    assert str(state) in line
    if (folder / state).exists():  # of an iteration before
        assert read_sealed(folder / state)
        (folder / state).unlink()
    (folder / "broken.yaml").unlink()
    world.finish("train", folder)
