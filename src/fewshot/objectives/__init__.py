"""What a training minimises: one file an objective. The loop over iterations is `fewshot.training`.

An objective is a module with `build`, named by its settings (their `module`) and imported by that name: a new one leaves the
code of networks that are trained with another what it is (see `source_hash`).
"""

from __future__ import annotations

from importlib import import_module

from fewshot.config import ObjectiveSettings
from fewshot.models.network import Network
from fewshot.objectives.base import FeatureMap, Objective

__all__ = ["FeatureMap", "Objective", "build_objective"]


def build_objective(settings: ObjectiveSettings, network: Network, seed: int, teacher: Network | None = None) -> Objective:
    """The objective these settings describe.

    Args:
        settings: of the objective.
        network: that is trained.
        seed: of what the objective draws.
        teacher: a trained network to learn from, for settings that name one.
    """
    objective: Objective = import_module(settings.module).build(settings, network, seed, teacher)
    return objective
