"""Few-shot accuracy along the way of a training."""

from __future__ import annotations

import numpy as np

from fewshot import nearest_prototype
from fewshot.config import ValidationSettings
from fewshot.data.store import Store, require_images
from fewshot.device import float32_convolutions
from fewshot.episodes import Episodes, draw_tasks
from fewshot.evaluation import Evaluator
from fewshot.features import Features, compute
from fewshot.intervals import interval, known
from fewshot.models.network import Network


def require_validation(store: Store, settings: ValidationSettings) -> None:
    """Check that the validation classes give the tasks of a network's validation.

    Raises:
        DataError: fewer classes than `way`, or a class with fewer images than `shot + queries`.
    """
    taken = {"shot": settings.shot, "queries": settings.queries}
    require_images(store, "val", taken, settings.way, "stage1.training.validation")


class Validation:
    """Few-shot accuracy on the validation classes: the same tasks every time."""

    def __init__(self, store: Store, settings: ValidationSettings, seed: int) -> None:
        require_validation(store, settings)
        rows = store.rows("val")
        labels = store.labels[rows]
        per_class = [rows[labels == label][: settings.images_per_class] for label in np.unique(labels)]
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
        training = network.training
        network.eval()
        kind, device, distance = network.settings.classifier.pooling, network.mean.device, network.settings.distance
        with float32_convolutions():  # as features are computed that are tested
            features = Features(compute(network, self.images, progress=False, to=device), self.rows, {})
        network.train(training)
        if distance is not None:
            found = nearest_prototype.accuracies(features, self.episodes, kind, distance, device)
        else:
            poolings = network.settings.classifier.testing
            found = Evaluator(features, device).accuracies(self.episodes, *poolings, network.test_scale)
        accuracy, ci95 = interval(found["novel"])
        return known(accuracy=accuracy, ci95=ci95)
