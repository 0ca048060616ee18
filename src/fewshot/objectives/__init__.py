"""What a training minimises: one file an objective. The loop over iterations is `fewshot.training`."""

from fewshot.objectives.base import FeatureMap, Objective
from fewshot.objectives.classification import Classification

__all__ = ["Classification", "FeatureMap", "Objective"]
