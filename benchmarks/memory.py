"""What it is worth that the C library keeps the memory of large tensors (`fewshot.device`): steps of C128F on a CPU.

Each form runs in a process of its own, as what a process has kept once would serve the other form too.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks import stage1
from benchmarks.measure import Growth, Options, Row
from fewshot import device

BACKBONE, SIZE, BATCH = "c128f", 84, 200
"""Table 1 of paper 000: activations of a step take up to 0.36 GB each."""
ROUNDS = 2


def run(options: Options) -> tuple[list[Row], list[Growth]]:
    """Both forms in turn; on CUDA nothing, as PyTorch keeps that memory itself."""
    if options.device.type != "cpu":
        return [], []
    found = [(_child("kept", options), _child("returned", options)) for _ in range(ROUNDS)]
    kept, returned = (min((pair[i] for pair in found), key=lambda one: one["clock"]) for i in (0, 1))
    note = "; ".join(
        f"{words}{one['faults']:,.0f} page faults an image, {one['gigabytes']:.1f} GB at most"
        for words, one in (("", kept), ("plain ", returned))
    )
    setting = f"{BACKBONE}, {SIZE} px, batch {BATCH}, memory of large tensors kept"
    ratio = returned["processor"] / kept["processor"]
    return [Row("memory", setting, 1 / kept["clock"], "images/s", 1 / returned["clock"], note, ratio)], []


def _child(form: str, options: Options) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", form, str(torch.get_num_threads()), str(options.seconds)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)  # noqa: S603
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def _measure(form: str, threads: int, limit: float) -> dict[str, float]:
    """Of an image: seconds on the clock, of all threads, page faults; of the process: its height."""
    if form == "returned":
        device._keep_memory = lambda: None
    device.select_device("cpu", threads)
    stage1.BATCH["cpu"][SIZE] = BATCH
    made = stage1.trainer(BACKBONE, SIZE, torch.device("cpu"), "float32", False)
    taken: list[tuple[float, float, int]] = []
    for iteration in range(3):
        made.step(iteration)
    started = time.perf_counter()
    while len(taken) < 3 or time.perf_counter() - started < limit:
        before = time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        made.step(len(taken))
        after = time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        taken.append((after[0] - before[0], after[1] - before[1], after[2] - before[2]))
    clock, processor, faults = (min(one[i] for one in taken) / BATCH for i in range(3))
    height = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"clock": clock, "processor": processor, "faults": faults, "gigabytes": height}


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))  # noqa: T201
