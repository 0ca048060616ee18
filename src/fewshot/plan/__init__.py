"""From a run's settings to its jobs and their paths."""

from fewshot.plan.jobs import AdaptationJob, EpisodeJob, EvaluatedSetting, EvaluationJob, FeaturePart, NetworkJob
from fewshot.plan.plan import Plan

__all__ = ["AdaptationJob", "EpisodeJob", "EvaluatedSetting", "EvaluationJob", "FeaturePart", "NetworkJob", "Plan"]
