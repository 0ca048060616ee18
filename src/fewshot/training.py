"""The one training loop. Read top to bottom.

Every random draw of iteration t comes from a generator seeded with (seed, t), and the order of images of epoch e from one
seeded with (seed, e). So a training state is no more than the iteration, the parameters and the optimizer's state, and a
training killed at any moment and resumed ends, on the CPU, in the same bytes as an unbroken one.

What is minimised is an objective (`fewshot.objectives`), which images it sees is a sampling (`fewshot.sampling`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from tqdm import tqdm

from fewshot.config import TrainingSettings
from fewshot.data.augment import augment
from fewshot.device import precision_on, to_device
from fewshot.errors import FewshotError, NotFiniteError
from fewshot.intervals import in_words
from fewshot.models.network import Network
from fewshot.objectives import Objective
from fewshot.optimization import Draw, build_optimizer, generator, learning_rate_factor
from fewshot.resume import State, copy_state
from fewshot.sampling import Sampling

logger = logging.getLogger(__name__)


class Trainer:
    """A training in progress: network, objective, optimizer, data on the device, and the loop over them.

    Args:
        network: as training starts; moved to the device of the images.
        objective: the loss; its own parameters are trained with the network's.
        batches: which rows of `images` an iteration sees.
        images: uint8 (N, H, W, 3), on the device.
        labels: int64 (N,), on the device.
        settings: of the training.
        name: of the training, for messages.
        seed: of augmentation.
        state: the resumable state; taken up if it is there.
        validate: network -> `accuracy`, maybe half its interval `ci95`, percent, and what else is to be recorded; None: never.
        factors: learning-rate factors of some of the network's modules, such as new layers on a trained network.
        weights_hash: of the file of weights that the network starts from, if it does; for the record.
        rate_key: the setting of the learning rate, for the error of a training that diverges.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        batches: Sampling,
        images: Tensor,
        labels: Tensor,
        settings: TrainingSettings,
        *,
        name: str,
        seed: int,
        state: State,
        validate: Callable[[Network], Mapping[str, float]] | None = None,
        factors: dict[torch.nn.Module, float] | None = None,
        weights_hash: str | None = None,
        rate_key: str = "stage1.training.optimizer.lr",
    ) -> None:
        self.settings, self.name, self.seed, self.device = settings, name, seed, images.device
        self.images, self.labels, self.batches, self.validate_network = images, labels, batches, validate
        self.network = network.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(self.device)
        self.optimizer = build_optimizer(
            settings.optimizer, (network, objective), factors or {}, fused=self.device.type == "cuda"
        )
        self.state, self.weights_hash, self.rate_key = state, weights_hash, rate_key
        self.progress, self.best = state.load(network, objective, self.optimizer)
        # Of fixed shapes, or a second network of a process would be compiled for all shapes, without channels-last kernels.
        self.compiled = torch.compile(network, dynamic=False) if settings.compile else network
        self.precision = precision_on(self.device, settings.precision)
        self.bfloat16 = self.precision == "bfloat16"

    def run(self, stop: Callable[[int], bool]) -> bool:
        """Train to the end; False if `stop` ended it before, with the state saved.

        Raises:
            FewshotError: the loss, or a parameter, is not finite. The last state that was saved stays.
        """
        settings, progress = self.settings, self.progress
        self.network.train()
        started, saved = time.monotonic() - progress.seconds, time.monotonic()
        rate = _Rate(progress.iteration, self.batches.batch_size)
        with tqdm(initial=progress.iteration, total=settings.iterations, desc=self.name, unit="it", mininterval=5) as bar:
            while progress.iteration < settings.iterations and not self.out_of_patience:
                loss, right = self.step(progress.iteration)
                progress.iteration += 1
                last = progress.iteration == settings.iterations
                if progress.iteration % settings.log_every == 0 or last:
                    self.log(float(loss), float(right), rate(progress.iteration))
                    bar.set_postfix(loss=f"{float(loss):.3f}", images_per_s=f"{rate.value:.0f}")
                if self.validate_network is not None and (progress.iteration % settings.validation.every == 0 or last):
                    self.validate(self.validate_network)
                    rate.restart(progress.iteration)
                bar.update()
                halt = stop(progress.iteration)
                if halt or time.monotonic() - saved > settings.save_every:
                    self.require_finite()  # the loss is of before the step; no state is saved over the last good one
                    progress.seconds = time.monotonic() - started
                    self.state.save(self.network, self.objective, self.optimizer, progress, self.best)
                    saved = time.monotonic()
                if halt:
                    return False
        self.require_finite()
        progress.seconds = time.monotonic() - started
        if self.best:
            self.network.load_state_dict(self.best)
        return True

    def step(self, iteration: int) -> tuple[Tensor, Tensor]:
        """One iteration; returns the loss and the share of images classified right, on the device."""
        rows = to_device(self.batches(iteration), self.device)
        images = augment(self.images, rows, self.settings.augmentation, generator(self.seed, Draw.AUGMENTATION, iteration))
        rate = self.learning_rate(iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss, right = self.objective(self.network, self.feature_map, images, self.labels[rows], iteration)
        kept = self.objective.record()
        if kept is not None:
            self.progress.metrics.append({"iteration": iteration, **kept})
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), right

    def feature_map(self, images: Tensor) -> Tensor:
        """Images (B, H, W, 3) on the 0..255 scale -> feature map (B, d, h, w), in the precision of the training."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.compiled(self.network.normalise(images))  # type: ignore[no-any-return]

    def learning_rate(self, iteration: int) -> float:
        """Learning rate of an iteration (0 .. iterations - 1)."""
        return self.settings.optimizer.lr * learning_rate_factor(self.settings.schedule, iteration, self.settings.iterations)

    @property
    def out_of_patience(self) -> bool:
        """Whether `validation.patience` ends the training here; told from what a training state holds."""
        settings, progress = self.settings.validation, self.progress
        since = progress.iteration - progress.better_iteration  # a tie is no better one
        return settings.patience is not None and progress.best is not None and since >= settings.patience * settings.every

    def log(self, loss: float, right: float, images_per_second: float) -> None:
        """Add a training line to the metrics.

        Args:
            loss: of the last iteration.
            right: share (0..1) of its images that were classified right.
            images_per_second: since the line before.

        Raises:
            FewshotError: the loss is not finite.
        """
        iteration = self.progress.iteration
        if not math.isfinite(loss):
            raise self._diverged(f"the loss is {loss}")
        self.progress.metrics.append(
            {"iteration": iteration, "loss": loss, "accuracy": 100 * right, "lr": self.learning_rate(iteration - 1),
             "scale": self.network.scale, "images_per_second": images_per_second}
        )  # fmt: skip

    def require_finite(self) -> None:
        """Refuse a network, or an objective, with parameters or statistics that are not finite.

        Raises:
            FewshotError: one is not.
        """
        held = [*self.network.state_dict().values(), *self.objective.state_dict().values()]
        if not torch.stack([torch.isfinite(one).all() for one in held]).all():
            raise self._diverged("the parameters are not finite")

    def _diverged(self, what: str) -> FewshotError:
        return FewshotError(
            f"training {self.name}: {what} at iteration {self.progress.iteration}; lower {self.rate_key} "
            f"(the last good state, if any, is {self.state.path})"
        )

    def validate(self, validation: Callable[[Network], Mapping[str, float]]) -> None:
        """Add a validation line to the metrics; keep the state if it is the best so far (of equals, the later).

        Raises:
            FewshotError: a parameter, or a feature, is not finite.
        """
        self.require_finite()
        progress = self.progress
        try:
            measured = validation(self.network)
        except NotFiniteError:
            raise self._diverged("the features are not finite") from None
        accuracy = measured["accuracy"]
        line = {f"validation_{name}": value for name, value in measured.items()}
        progress.metrics.append({"iteration": progress.iteration, **line})
        logger.info("iteration %d: validation accuracy %s", progress.iteration, in_words(accuracy, measured.get("ci95")))
        if progress.best is None or accuracy > progress.best:
            progress.better_iteration = progress.iteration
        if progress.best is None or accuracy >= progress.best:
            progress.best, progress.best_iteration = accuracy, progress.iteration
            self.best = copy_state(self.network) if self.settings.validation.keep == "best" else {}


class _Rate:
    """Images a second since the last question, validations left out."""

    def __init__(self, iteration: int, batch_size: int) -> None:
        self.batch_size, self.value = batch_size, 0.0
        self.restart(iteration)

    def restart(self, iteration: int) -> None:
        self._mark = (iteration, time.monotonic())

    def __call__(self, iteration: int) -> float:
        before, then = self._mark
        self.value = (iteration - before) * self.batch_size / max(time.monotonic() - then, 1e-9)
        self.restart(iteration)
        return self.value
