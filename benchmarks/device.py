"""On a real GPU: whether each step says what it says on the CPU, without waiting for the device and in channels-last kernels.

To be run first where a GPU was never seen before (`python -m benchmarks device`): a few minutes, no data. A check that fails is
a row that says so, and the others go on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import evaluation, stage2
from benchmarks.measure import Growth, Options, Row, seconds
from fewshot.config import ImplantingSettings, NetworkSettings
from fewshot.device import float32_convolutions
from fewshot.evaluation import Evaluator
from fewshot.features import compute
from fewshot.methods import implanting
from fewshot.models.network import Network
from fewshot.objectives import build_objective
from fewshot.resume import State
from fewshot.sampling import build_sampling
from fewshot.training import Trainer

TRAININGS: dict[str, dict[str, Any]] = {
    "dense": {},
    "rotation": {"objective": {"rotation": {"views": "all"}}},
    "Adam": {"optimizer": {"name": "adam", "lr": 0.001}},
    "resized crops": {"augmentation": {"resized_crop": [0.25, 1.0], "color_jitter": 0.4}},
    "episodic": {"objective": {"kind": "episodic", "way": 8, "shot": 2, "queries": 4}},
    "lifted": {"objective": {"kind": "lifted_structured", "way": 8, "images": 4}},
    "compiled": {"compile": True},
}
CLASSES, BATCH = 16, 32
TASKS = 4
"""Of implants."""
CPU = torch.device("cpu")


def run(options: Options) -> tuple[list[Row], list[Growth]]:
    """A row a check; on a CPU none, as there is nothing to compare with."""
    if options.device.type == "cpu":
        return [Row("device", "left out: no CUDA device", None, "")], []
    rows = []
    for name, check in _checks(options.device):
        try:
            said = f"as on the CPU: {check()}"
        except Exception as error:  # whatever it is, the next check says more
            said = f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        rows.append(Row("device", name, None, "", note=said.replace("|", "/")))
    return [*rows, *_validation(options)], []


def _checks(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    for name in TRAININGS:
        yield f"a step, {name}, float32", partial(_step, name, device)
        yield f"a step, {name}, bfloat16", partial(_waits_for_nothing, name, device)
    yield "features", partial(_features, device)
    yield "implants", partial(_implants, device)
    yield "evaluation", partial(_evaluation, device)


def _trainer(name: str, device: torch.device, precision: str) -> Trainer:
    torch.manual_seed(0)
    tasks = name in ("episodic", "lifted")
    training = {"batch_size": BATCH, "precision": precision, "validation": {"every": 0, "keep": "last"}, **TRAININGS[name]}
    if device == CPU:
        training["compile"] = False  # the plain form, and there may be no compiler
    classifier = {"kind": "none"} if tasks else {"pooling": "dense"}
    settings = NetworkSettings.model_validate(
        {"backbone": {"name": "resnet12"}, "classifier": classifier, "training": training}
    )
    rows, labels = torch.arange(4 * BATCH), torch.arange(CLASSES).repeat_interleave(4 * BATCH // CLASSES)
    images = torch.randint(256, (4 * BATCH, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    network = Network(settings, CLASSES, 32)
    objective = build_objective(settings.training.objective, network, 0)
    with tempfile.TemporaryDirectory() as folder:
        made = Trainer(
            network, objective, build_sampling(settings.training, rows, labels, 0), images.to(device), labels.to(device),
            settings.training, name=name, seed=0, state=State(Path(folder) / "none", ""),
        )  # fmt: skip
    made.network.train()
    return made


def _step(name: str, device: torch.device) -> str:
    """Losses of three steps, within what TF32 convolutions and other orders of sums may change."""
    one, other = (_trainer(name, place, "float32") for place in (CPU, device))
    with float32_convolutions():
        pairs = [(float(one.step(i)[0]), float(other.step(i)[0])) for i in range(3)]
    worst = max(abs(a - b) / abs(a) for a, b in pairs)
    _require(worst < 5e-3, f"losses {pairs}")
    return f"losses of three steps differ by {worst:.1e} at most"


def _waits_for_nothing(name: str, device: torch.device) -> str:
    made = _trainer(name, device, "bfloat16")
    expected = float(_trainer(name, CPU, "float32").step(0)[0])
    found = float(made.step(0)[0])
    _require(abs(found - expected) < 0.05 * abs(expected), f"losses {expected} and {found}")
    with _waiting_is_an_error():
        made.step(1)
    kernels = [one for one in made.network.parameters() if one.dim() == 4 and one.shape[2] > 1]
    in_rows = sum(not one.is_contiguous(memory_format=torch.channels_last) for one in kernels)
    _require(not in_rows, f"{in_rows} kernels are not channels-last")
    return f"losses {expected:.3f} and {found:.3f}; no wait for the device; kernels channels-last"


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _features(device: torch.device) -> str:
    torch.manual_seed(0)
    network = Network(NetworkSettings.model_validate({"backbone": {"name": "resnet12"}}), CLASSES, 32).eval()
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    expected = compute(network, images, progress=False)
    with float32_convolutions():
        found = compute(network.to(device=device, memory_format=torch.channels_last), images, progress=False)  # type: ignore[call-overload]
    return _close(expected, found.cpu(), 1e-4)


def _implants(device: torch.device) -> str:
    settings, found = ImplantingSettings(method="implanting", epochs=3), []
    for place in (CPU, device):
        with float32_convolutions():
            world = stage2.draw(32, TASKS, 5, 5, place)
            tasks = list(range(len(world.index)))
            found.append(implanting.adapt_tasks(world.stream, world.index, 5, 5, tasks, settings, 0, lambda *_: None).cpu())
    expected, here = found
    return _close(expected, here, 0.05)


def _evaluation(device: torch.device) -> str:
    worst = 0.0
    for locations in (4, 25):
        world = evaluation.draw(2000, 200, locations)
        for pooling in evaluation.QUERY[::2]:
            on_cpu, here = (
                Evaluator(world.features, place, world.classes(place)).accuracies(
                    world.episodes, "gap", pooling, evaluation.SCALE, ("novel", "base", "both")
                )
                for place in (CPU, device)
            )
            worst = max(worst, *(float(np.abs(on_cpu[name] - here[name]).mean()) for name in on_cpu))
    _require(worst < 0.02, f"tasks differ by {worst} points on average")
    return f"tasks differ by {worst:.4f} points on average"


def _close(expected: torch.Tensor, found: torch.Tensor, limit: float) -> str:
    worst = float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
    _require(worst < limit, f"values differ by {worst:.1e} of the largest")
    return f"values differ by {worst:.1e} of the largest at most"


def _require(right: bool, otherwise: str) -> None:
    if not right:
        raise ArithmeticError(otherwise)


def _validation(options: Options) -> list[Row]:
    """What a validation while training costs: features in float32, without TF32."""
    rows = []
    for size, images in ((32, 12_000), (84, 3_000)):
        network = Network(NetworkSettings.model_validate({"backbone": {"name": "resnet12"}}), CLASSES, size).eval()
        network = network.to(device=options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        drawn = np.zeros((images if options.seconds else 4, size, size, 3), np.uint8)
        with float32_convolutions():
            taken = seconds(partial(compute, network, drawn, progress=False), options)
        rows.append(Row("device", f"features of a ResNet-12, {size} px, float32", len(drawn) / taken, "images/s"))
    return rows
