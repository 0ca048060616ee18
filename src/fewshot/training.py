"""Stage 1: the one training loop. Read top to bottom.

Every random draw of iteration t comes from a generator seeded with (seed, t), and the order of images of epoch e from one
seeded with (seed, e). So a training state is no more than the iteration, the parameters and the optimizer's state, and a
training killed at any moment and resumed ends, on the CPU, in the same bytes as an unbroken one.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fewshot import provenance
from fewshot.checkpoint import save_network
from fewshot.config import ValidationSettings
from fewshot.data.augment import augment
from fewshot.data.store import Store, require_images
from fewshot.episodes import Episodes, draw_tasks
from fewshot.errors import FewshotError
from fewshot.evaluation import Evaluator, interval
from fewshot.features import Features, compute
from fewshot.files import atomic
from fewshot.models.backbones import parameter_count
from fewshot.models.heads import PoolingKind, classification_loss, predict
from fewshot.models.network import Network
from fewshot.optimization import build_optimizer, generator, learning_rate_factor
from fewshot.plan import NetworkJob
from fewshot.resume import State, copy_state

logger = logging.getLogger(__name__)


class Batches:
    """Row numbers of the training images, iteration by iteration: every epoch a new order; the tail of one joins the next."""

    def __init__(self, rows: Tensor, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._epoch: tuple[int, Tensor] = (-1, rows[:0])

    def _order(self, epoch: int) -> Tensor:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.rows[torch.randperm(len(self.rows), generator=generator(self.seed, 1, epoch))])
        return self._epoch[1]

    def __call__(self, iteration: int) -> Tensor:
        """The rows of an iteration, int64 (batch_size,)."""
        parts, start, missing = [], iteration * self.batch_size, self.batch_size
        while missing:
            epoch, offset = divmod(start, len(self.rows))
            part = self._order(epoch)[offset : offset + missing]
            parts.append(part)
            start, missing = start + len(part), missing - len(part)
        return torch.cat(parts)


class Validation:
    """Few-shot accuracy on the validation classes: the same tasks every time."""

    def __init__(self, store: Store, settings: ValidationSettings, seed: int) -> None:
        require_images(store, "val", settings.shot + settings.queries, settings.way, "stage1.training.validation")
        rows = store.rows("val")
        labels = store.labels[rows]
        per_class = [rows[labels == label][: settings.images_per_class] for label in np.unique(labels)]
        support, query, base = draw_tasks(
            per_class, rows[:0], settings.way, settings.shot, settings.queries, settings.tasks, seed
        )
        self.episodes = Episodes(support, query, base, {})
        self.rows = np.sort(np.concatenate(per_class))
        self.images = store.images[self.rows]

    def __call__(self, network: Network) -> tuple[float, float]:
        """Mean accuracy and half its 95 % interval, percent: support averaged, queries as the training pools them."""
        training = network.training
        network.eval()
        features = Features(compute(network, self.images, progress=False).numpy(), self.rows, {})
        network.train(training)
        kind = network.settings.classifier.pooling
        support: PoolingKind = "gmp" if kind == "gmp" else "gap"
        query: PoolingKind = "gap" if kind == "flatten" else kind
        evaluator = Evaluator(features, network.mean.device)
        scale = network.scale
        return interval(evaluator.accuracies(self.episodes, support, query, scale)["novel"])


class Trainer:
    """A training in progress: network, optimizer, data on the device, and the loop over them.

    Args:
        store: images and classes.
        job: name, settings and seed.
        device: where to train.
        state_path: file of the resumable state; taken up if it is there.
    """

    def __init__(self, store: Store, job: NetworkJob, device: torch.device, state_path: Path) -> None:
        self.job, self.settings, self.device = job, job.settings.training, device
        torch.manual_seed(job.seed)
        network = Network(job.settings, store.num_base, store.image_size, store.mean, store.std)
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.settings.optimizer, network, fused=device.type == "cuda")
        self.state = State(state_path, training_identity(store, job))
        self.progress, self.best = self.state.load(network, self.optimizer)
        self.images = torch.from_numpy(np.array(store.images)).to(device)
        self.labels = torch.from_numpy(np.array(store.labels)).to(device)
        self.batches = Batches(torch.from_numpy(store.rows("base")), self.settings.batch_size, job.seed)
        validation = self.settings.validation
        self.validation = Validation(store, validation, job.seed) if validation.every else None
        self.feature_map = torch.compile(network) if self.settings.compile else network
        precision = self.settings.precision
        self.bfloat16 = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")

    def run(self, stop: Callable[[int], bool]) -> bool:
        """Train to the end; False if `stop` ended it before, with the state saved."""
        settings, progress = self.settings, self.progress
        self.network.train()
        started, saved = time.monotonic() - progress.seconds, time.monotonic()
        rate = _Rate(progress.iteration, settings.batch_size)
        with tqdm(initial=progress.iteration, total=settings.iterations, desc=self.job.name, unit="it", mininterval=5) as bar:
            while progress.iteration < settings.iterations:
                loss, right = self.step(progress.iteration)
                progress.iteration += 1
                last = progress.iteration == settings.iterations
                if progress.iteration % settings.log_every == 0 or last:
                    self.log(float(loss), float(right), rate(progress.iteration))
                    bar.set_postfix(loss=f"{float(loss):.3f}", images_per_s=f"{rate.value:.0f}")
                if self.validation is not None and (progress.iteration % settings.validation.every == 0 or last):
                    self.validate(self.validation)
                    rate.restart(progress.iteration)
                bar.update()
                halt = stop(progress.iteration)
                # A state is never saved over the last good one; the next log line says what happened.
                if (halt or time.monotonic() - saved > settings.save_every) and math.isfinite(float(loss)):
                    progress.seconds = time.monotonic() - started
                    self.state.save(self.network, self.optimizer, progress, self.best)
                    saved = time.monotonic()
                if halt:
                    return False
        progress.seconds = time.monotonic() - started
        if self.best:
            self.network.load_state_dict(self.best)
        return True

    def step(self, iteration: int) -> tuple[Tensor, Tensor]:
        """One iteration; returns the loss and the share of images classified right, on the device."""
        settings = self.settings
        rows = self.batches(iteration).to(self.device)
        images = augment(self.images, rows, settings.augmentation, generator(self.job.seed, 2, iteration))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(iteration)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            feature_map = self.feature_map(self.network.normalise(images))
        logits, labels = self.network.classify(feature_map), self.labels[rows]
        loss = classification_loss(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach(), (predict(logits.detach()) == labels).float().mean()

    def learning_rate(self, iteration: int) -> float:
        """Learning rate of an iteration (0 .. iterations - 1)."""
        return self.settings.optimizer.lr * learning_rate_factor(self.settings.schedule, iteration, self.settings.iterations)

    def log(self, loss: float, right: float, images_per_second: float) -> None:
        """Add a training line to the metrics; refuse a loss that is not finite."""
        iteration = self.progress.iteration
        if not math.isfinite(loss):
            raise FewshotError(
                f"training {self.job.name}: the loss is {loss} at iteration {iteration}; lower stage1.training.optimizer.lr "
                f"(the last good state, if any, is {self.state.path})"
            )
        self.progress.metrics.append(
            {"iteration": iteration, "loss": loss, "accuracy": 100 * right, "lr": self.learning_rate(iteration - 1),
             "scale": self.network.scale, "images_per_second": images_per_second}
        )  # fmt: skip

    def validate(self, validation: Validation) -> None:
        """Add a validation line to the metrics; keep the state if it is the best so far (of equals, the later)."""
        progress = self.progress
        accuracy, ci95 = validation(self.network)
        progress.metrics.append({"iteration": progress.iteration, "validation_accuracy": accuracy, "validation_ci95": ci95})
        logger.info("iteration %d: validation accuracy %.2f ± %.2f %%", progress.iteration, accuracy, ci95)
        if progress.best is None or accuracy >= progress.best[0]:
            progress.best, progress.best_iteration = (accuracy, ci95), progress.iteration
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


def train(
    store: Store,
    job: NetworkJob,
    folder: Path,
    device: torch.device,
    stop: Callable[[int], bool] = lambda iteration: False,
) -> None:
    """Train a network on the store's base images (without the held-out ones) and write its folder.

    Args:
        store: images and classes.
        job: name, settings and seed.
        folder: gets model.safetensors, model.json, metrics.jsonl when the training is complete; the resumable state lies
            beside it, as `<folder>.state`, until then.
        device: where to train.
        stop: asked after every iteration; True ends the call with the state saved and the folder untouched.

    Raises:
        FewshotError: the loss is not finite (names the iteration; the last good state stays).
        DataError: the state is damaged, or of another training; the validation classes do not do for their tasks.
    """
    trainer = Trainer(store, job, device, folder.with_name(folder.name + ".state"))
    logger.info(
        "training %s (seed %d) on %s: %d images of %d classes, %s, %d iterations of %d",
        job.name, job.seed, provenance.device_words(device), len(trainer.batches.rows), store.num_base,
        "bfloat16" if trainer.bfloat16 else "float32", trainer.settings.iterations, trainer.settings.batch_size,
    )  # fmt: skip
    if trainer.run(stop):
        write_outputs(store, trainer, folder)
        trainer.state.path.unlink(missing_ok=True)


def training_identity(store: Store, job: NetworkJob) -> str:
    """What a training is: settings, seed, data and code."""
    code = provenance.source_hash("fewshot.training", without=("fewshot.evaluation", "fewshot.features"))
    return f"{job.key}/seed{job.seed}/{store.data_hash}/{code}"


def write_outputs(store: Store, trainer: Trainer, folder: Path) -> None:
    """metrics.jsonl, model.safetensors, model.json, in this order: a folder with model.json is complete."""
    job, settings, progress, network = trainer.job, trainer.settings, trainer.progress, trainer.network
    keep = settings.validation.keep
    validation = None
    if progress.best is not None:
        validation = {"accuracy": progress.best[0], "ci95": progress.best[1], "iteration": progress.best_iteration}
    with atomic(folder / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in progress.metrics))
    save_network(
        network,
        folder,
        {
            "name": job.name, "seed": job.seed, "classes": list(store.classes["name"][: store.num_base]),
            "image_size": store.image_size, "data_hash": store.data_hash, "store": store.path.parent.name,
            "training_images": len(trainer.batches.rows), "data_notes": list(store.meta.get("notes", [])),
            "iteration": progress.best_iteration if keep == "best" else progress.iteration,
            "iterations": settings.iterations, "kept": keep, "validation": validation,
            "parameters": parameter_count(network.backbone), "feature_shape": list(network.feature_shape),
            "precision": "bfloat16" if trainer.bfloat16 else "float32",
            "device": provenance.device_words(trainer.device), "threads": torch.get_num_threads(),
            "seconds": round(progress.seconds, 1), "git_revision": provenance.git_revision(),
            "versions": provenance.versions(),
        },
    )  # fmt: skip
