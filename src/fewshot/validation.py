"""What a network is worth along the way of its training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot import nearest_prototype
from fewshot.config import TrainingSettings, ValidationSettings
from fewshot.data.store import Store, require_images
from fewshot.data.trained_images import validated_on
from fewshot.device import float32_convolutions, to_device
from fewshot.episodes import Episodes, draw_tasks
from fewshot.evaluation import Evaluator
from fewshot.features import Features, batched, compute
from fewshot.intervals import interval, known
from fewshot.models.heads import probabilities
from fewshot.models.network import Network


def require_validation(store: Store, training: TrainingSettings) -> None:
    """Check that the store gives the images of a network's validation.

    Raises:
        DataError: of validation classes there are fewer than `way`, or one has fewer images than `shot + queries`; or no image
            of the trained classes is held out.
    """
    settings = training.validation
    if training.holds_out:
        validated_on(store, training)
    else:
        taken = {"shot": settings.shot, "queries": settings.queries}
        require_images(store, "val", taken, settings.way, "stage1.training.validation")


def build_validation(store: Store, training: TrainingSettings, seed: int) -> Callable[[Network], dict[str, float]]:
    """What gives the `accuracy` of a network and half its 95 % interval `ci95`, percent, as its settings measure it.

    Args:
        store: of the images.
        training: settings of the network.
        seed: of the tasks.

    Raises:
        DataError: see `require_validation`.
    """
    require_validation(store, training)
    return HeldOutAccuracy(store, training) if training.holds_out else FewShotAccuracy(store, training.validation, seed)


class HeldOutAccuracy:
    """Share of the held-out images of the trained classes that a network's own classifier tells right."""

    def __init__(self, store: Store, training: TrainingSettings) -> None:
        rows = validated_on(store, training)
        self.rows = np.concatenate(_first(rows, store.labels[rows], training.validation.images_per_class))
        self.images, self.labels = store.images[self.rows], torch.from_numpy(store.labels[self.rows])

    def __call__(self, network: Network) -> dict[str, float]:
        """Mean `accuracy` over images and half its 95 % interval `ci95`, percent."""
        device = network.mean.device
        labels = to_device(self.labels, device)

        def right(batch: Tensor, start: int) -> Tensor:
            found = probabilities(network.classify(network(network.normalise(batch))))
            told = (found.argmax(-1) == labels[start : start + len(batch)]).float()
            return torch.where(found.isfinite().all(-1), told, torch.nan)[:, None, None]

        with as_tested(network):
            told = batched(network, self.images, None, right, (1, 1), progress=False, to=device)
        accuracy, ci95 = interval(100 * told.flatten().cpu().numpy().astype(np.float64))
        return known(accuracy=accuracy, ci95=ci95)


class FewShotAccuracy:
    """Few-shot accuracy on the validation classes: the same tasks every time."""

    def __init__(self, store: Store, settings: ValidationSettings, seed: int) -> None:
        rows = store.rows("val")
        per_class = _first(rows, store.labels[rows], settings.images_per_class)
        support, query, base = draw_tasks(
            per_class, rows[:0], settings.way, settings.shot, settings.queries, settings.tasks, seed
        )
        self.episodes = Episodes(support, query, base, {})
        self.rows = np.sort(np.concatenate(per_class))
        self.images = store.images[self.rows]

    def __call__(self, network: Network) -> dict[str, float]:
        """Mean `accuracy` and half its 95 % interval `ci95`, percent: support averaged, queries as the training pools them.

        A single task has no interval.
        """
        kind, device, distance = network.settings.classifier.pooling, network.mean.device, network.settings.distance
        with as_tested(network):
            features = Features(compute(network, self.images, progress=False, to=device), self.rows, {})
        if distance is not None:
            found = nearest_prototype.accuracies(features, self.episodes, kind, distance, device)
        else:
            poolings = network.settings.classifier.testing
            found = Evaluator(features, device).accuracies(self.episodes, *poolings, network.test_scale)
        accuracy, ci95 = interval(found["novel"])
        return known(accuracy=accuracy, ci95=ci95)


@contextmanager
def as_tested(network: Network) -> Iterator[None]:
    """The network in the mode in which features are computed that are tested, and with their precision."""
    training = network.training
    network.eval()
    try:
        with float32_convolutions():
            yield
    finally:
        network.train(training)


def _first(rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], number: int | None) -> list[npt.NDArray[np.int64]]:
    """The first rows of each class, in order; None: all."""
    return [rows[labels == label][:number] for label in np.unique(labels)]
