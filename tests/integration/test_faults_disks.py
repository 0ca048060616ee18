"""Full and read-only disks, damaged files: one line in every stage, and once they are mended an undisturbed run's results."""

import os
import random
import shutil
import subprocess
import time

import numpy as np
import pytest

from tests.integration.world import STAGES, contents, one_line

pytestmark = pytest.mark.slow


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
def test_a_damaged_state_is_named_and_deleting_it_starts_anew(world, tmp_path, stage, monkeypatch):
    rng = random.Random(stage)
    made = (
        world.plan.network_dir(world.plan.networks[0])
        if stage == "train"
        else world.plan.adapted_dir(world.plan.adaptations[0])
    )
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
