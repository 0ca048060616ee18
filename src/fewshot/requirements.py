"""What a run takes of its images, asked for before the first training and not when a later job finds it missing."""

from __future__ import annotations

import torch

from fewshot import episodes
from fewshot.config import ClassificationSettings
from fewshot.data.store import Store, require_images
from fewshot.data.trained_images import trained_on
from fewshot.errors import DataError
from fewshot.plan import Plan
from fewshot.sampling import require_tasks
from fewshot.validation import require_validation


def require(store: Store, plan: Plan) -> None:
    """Check that the store has the images that a run's trainings, tests and activation maps take.

    Raises:
        DataError: the tasks of tests or of trainings, a population, a network's validation or the activation maps need classes
            or images that are not there.
    """
    for shot in plan.config.evaluation.shots:
        episodes.require(store, plan.episodes(shot))
    _require_held_out(store, plan)
    for job in plan.networks:
        training = job.settings.training
        if not isinstance(training.objective, ClassificationSettings):
            require_tasks(training.objective, torch.from_numpy(store.labels[trained_on(store, training)[0]]))
        if training.validation.every:
            require_validation(store, training)
    maps = plan.config.activation_maps
    if maps is not None:
        require_images(store, plan.config.evaluation.part, {"shot": maps.shot}, where="activation_maps")


def _require_held_out(store: Store, plan: Plan) -> None:
    """Every population but novel is of held-out base images; a data set with a division of its own may have none."""
    wanted = [name for test in plan.config.evaluation.tests for name in test.populations if name != "novel"]
    if not wanted or len(store.rows("held_out")):
        return
    tested = getattr(plan.config.dataset, "test_folder", None)
    cure = "set dataset.held_out above 0" if tested is None else f"add images of base classes to {tested}"
    raise DataError(
        f"{store.path}: no held-out images of base classes, which population {wanted[0]} of evaluation.tests is of: "
        f"{cure}, or take the population out"
    )
