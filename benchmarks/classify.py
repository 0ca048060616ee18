"""`fewshot classify` as a user starts it, the start included: 5 classes of 5 support images, 100 queries, drawn."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import Growth, Options, Row
from fewshot.checkpoint import save_network
from fewshot.config import NetworkSettings
from fewshot.data.sources.glyphs import draw
from fewshot.models.network import Network

CLASSES, SHOT, QUERIES = 5, 5, 20
SIZE = 84
"""Pixels of what the network takes."""
PHOTOGRAPHS = {"0.3": (640, 480), "12": (4000, 3000)}
"""Megapixels, and the sides in pixels."""


def run(options: Options) -> tuple[list[Row], list[Growth]]:
    """Each size of photographs, without and with implants at the smaller one."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _network(folder / "model")
        for name, sides in PHOTOGRAPHS.items():
            _photographs(folder / name, sides)
            for implants in (False, True) if name == "0.3" else (False,):
                rows.append(_measured(folder, name, implants, options))
    return rows, []


def _network(folder: Path) -> None:
    """A ResNet-12 as it starts: how long it takes does not depend on what it has learnt."""
    torch.manual_seed(0)
    settings = NetworkSettings.model_validate({"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}})
    info = {"classes": [str(i) for i in range(64)], "image_size": SIZE, "data_hash": "none"}
    save_network(Network(settings, 64, SIZE).eval(), folder, info)


def _photographs(folder: Path, sides: tuple[int, int]) -> None:
    """JPEG files with the grain of photographs; those of a class are links to one another."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        picture = Image.fromarray(draw((label, 0), seed=0, size=128)).resize(sides)
        grain = rng.normal(0, 6, (sides[1], sides[0], 1)).astype(np.float32)
        picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
        first = folder / "known" / f"class{label}" / "0.jpg"
        for part, count in (("known", SHOT), ("new", QUERIES)):
            place = folder / part / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                if (part, number) == ("known", 0):
                    picture.save(first, quality=90)
                else:
                    (place / f"{number}.jpg").hardlink_to(first)


def _measured(folder: Path, name: str, implants: bool, options: Options) -> Row:
    command = [
        sys.executable, "-m", "fewshot", "classify", "--model", str(folder / "model"), "--support",
        str(folder / name / "known"), "--query", str(folder / name / "new"), "--out", str(folder / "out"),
        "--device", options.device.type,
        *(["--implant"] if implants else []),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    taken: list[tuple[float, float]] = []
    for _ in range(3):  # the first may have to compile Python's files and to read them from the disk
        clock, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603  our own program
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        taken.append((time.perf_counter() - clock, processor))
    seconds, processor = min(clock for clock, _ in taken), min(processor for _, processor in taken)
    images = CLASSES * (SHOT + QUERIES)
    how = ", implants" if implants else ""
    setting = f"resnet12, {SIZE} px, {CLASSES} x {SHOT} support images, {CLASSES * QUERIES} queries, {name} megapixels{how}"
    note = f"{seconds:.1f} s, of processor time {processor:.1f} s, the program's start included"
    return Row("classify", setting, images / seconds, "images/s", note=note)
