"""Training of a whole network on the base classes' images and a few exemplars of the novel ones (paper 001, section 6.1.2).

The loop is that of stage 1 too (`fewshot.training`); here is what it is given: images, labels, balanced batches, and the
accuracies that are measured on the way.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot import predictions
from fewshot.config import ClassificationSettings, FinetuningSettings, ScheduleSettings, TrainingSettings, ValidationSettings
from fewshot.methods.base import Curve, Ground, Task, decide
from fewshot.models.inference import batch_size
from fewshot.models.network import Network
from fewshot.objectives.classification import Classification
from fewshot.resume import State
from fewshot.sampling import BalancedBatches, Batches
from fewshot.training import Trainer


class Finetuning:
    """Trains networks on the tasks of one job.

    Args:
        ground: what the tasks share.
        settings: of the training.
        with_base: train on the base classes too; otherwise on the exemplars alone (transfer, Table 3).
    """

    def __init__(self, ground: Ground, settings: FinetuningSettings, with_base: bool = True) -> None:
        self.ground, self.settings, self.with_base = ground, settings, with_base
        self.at_once = batch_size(ground.network.mean.device, ground.store.image_size)
        self.measured = ("all", "novel_in_all", "novel") if with_base else ("novel",)

    @cached_property
    def _images(self) -> Tensor:
        return torch.from_numpy(np.array(self.ground.store.images)).to(self.ground.network.mean.device)

    def __call__(
        self, network: Network, task: Task, state: Path, new_embedding: bool = False
    ) -> tuple[npt.NDArray[np.int32], Curve]:
        """Train a network, which is changed, to the end; what it then predicts, and its curve, epoch 0 included.

        Args:
            network: with a classifier of base and novel classes (of the novel ones alone where `with_base` is false).
            task: whose exemplars are trained on, and whose images are predicted.
            state: file of the resumable state.
            new_embedding: the embedding layer is not trained yet either, and learns as fast as the classifier.
        """
        classes = self._classes(task)
        labels = torch.full((len(self.ground.store.labels),), -1)
        for number, rows in enumerate(classes):
            labels[rows] = number
        epoch = math.ceil(sum(map(len, classes)) / self.settings.batch_size)
        training = self._training(epoch)
        seed = int(np.random.SeedSequence([self.ground.seed, task.number]).generate_state(1)[0] >> 1)
        torch.manual_seed(seed)
        batches = (
            BalancedBatches(classes, training.batch_size, seed)
            if self.settings.balanced
            else Batches(torch.cat(classes), training.batch_size, seed)
        )

        said: list[npt.NDArray[np.int32]] = []  # by the state measured last

        def measured(network: Network) -> dict[str, float]:
            store = self.ground.store
            said[:] = [self.predict(network, task)]
            found = predictions.shares(said[0], task.classes, store.labels[task.base], store.num_base, self.measured)
            return {name: found[name] for name in self.measured} | {"accuracy": found[self.measured[0]]}

        start = measured(network)
        new = (network.embedding, network.classifier) if new_embedding else (network.classifier,)
        trainer = Trainer(
            network, Classification(ClassificationSettings(), network.feature_shape[0], seed), batches, self._images,
            labels.to(self._images.device), training, name=f"{self.ground.name}, task {task.number}", seed=seed,
            state=State(state, f"task {task.number}"), validate=measured,
            factors=dict.fromkeys(new, training.optimizer.head_factor),
            rate_key=f"stage2.{self.ground.name}.finetuning.optimizer.lr",
        )  # fmt: skip
        begun = trainer.progress.iteration
        trainer.run(lambda iteration: False)
        curve: Curve = [{"epoch": 0, **{name: start[name] for name in self.measured}}]
        losses = {line["iteration"]: line["loss"] for line in trainer.progress.metrics if "loss" in line}
        for line in trainer.progress.metrics:
            if "validation_accuracy" in line:
                point = {name: line[f"validation_{name}"] for name in self.measured}
                curve.append({"epoch": line["iteration"] // epoch, "loss": losses[line["iteration"]], **point})
        resumed_at_the_end = begun == trainer.progress.iteration  # what was measured is the network before its training
        return self.predict(network, task) if resumed_at_the_end else said[0], curve

    def _classes(self, task: Task) -> list[Tensor]:
        """Training rows of every class, in the order of the classifier."""
        store = self.ground.store
        found = []
        if self.with_base:
            base = store.rows("base")
            found = [base[store.labels[base] == label] for label in range(store.num_base)]
        found += [rows[rows >= 0] for rows in task.support]
        return [torch.from_numpy(rows) for rows in found]

    def _training(self, epoch: int) -> TrainingSettings:
        """The settings of the loop, an epoch being so many iterations."""
        settings, stage1 = self.settings, self.ground.network.settings.training
        every = settings.measure_every * epoch
        return TrainingSettings(
            iterations=settings.epochs * epoch,
            batch_size=settings.batch_size,
            optimizer=settings.optimizer,
            schedule=ScheduleSettings(kind="exponential", decay=settings.decay, decay_every=settings.decay_epochs * epoch),
            augmentation=settings.augmentation or stage1.augmentation,
            validation=ValidationSettings(every=every, keep="last"),
            precision=stage1.precision,
            log_every=every,
        )

    @torch.inference_mode()
    def predict(self, network: Network, task: Task) -> npt.NDArray[np.int32]:
        """What a network says of the task's images: see `fewshot.predictions`."""
        training = network.training
        network.eval()
        rows = torch.from_numpy(np.concatenate([task.query, task.base]))
        logits = torch.cat([self._scores(network, part) for part in torch.split(rows, self.at_once)])
        network.train(training)
        return decide(logits, len(task.query), self.ground.store.num_base, self.with_base)

    def _scores(self, network: Network, rows: Tensor) -> Tensor:
        images = self._images[rows.to(self._images.device)]
        return network.logits(network.normalise(images))[:, 0]  # of one vector an image: the settings refuse other poolings
