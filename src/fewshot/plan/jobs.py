"""The jobs of a run, as `fewshot.plan.Plan` makes them from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fewshot.config import AdaptationSettings, NetworkSettings, Population, QueryPooling, SupportPooling, Views


@dataclass(frozen=True)
class EpisodeJob:
    """One file of tasks."""

    way: int | Literal["all"]
    shot: int
    queries: int | Literal["all", "remaining"]
    tasks: int
    part: Literal["test", "val"]
    seed: int

    @property
    def key(self) -> str:
        """Stem of the file's name."""
        return f"{self.part}-{self.way}way-{self.shot}shot-{self.queries}queries-{self.tasks}tasks-seed{self.seed}"


@dataclass(frozen=True)
class NetworkJob:
    """One training of one network."""

    name: str
    key: str
    seed: int
    settings: NetworkSettings
    teacher: NetworkJob | None = None
    """The training whose network this one learns from."""


@dataclass(frozen=True)
class FeaturePart:
    """Some of a network's features, in a folder of their own."""

    of: Literal["test", "val", "trained"]
    """`test`, `val`: of those classes and of the held-out base images; `trained`: of the images trained on, pooled."""
    views: Views = 0
    """Means over so many views of each image, pooled; 0: of the image as it is."""

    @property
    def name(self) -> str:
        """Ending of the folder's name."""
        views = f"views{self.views}" if isinstance(self.views, int) else self.views
        return f"{self.of}-{views}" if self.views else self.of


@dataclass(frozen=True)
class AdaptationJob:
    """One stage-2 method on one network, over the first `tasks` tasks of an episode file."""

    network: NetworkJob
    name: str
    key: str
    episodes: EpisodeJob
    tasks: int
    settings: AdaptationSettings


@dataclass(frozen=True)
class EvaluatedSetting:
    """One row (or one row a population) of summary.csv."""

    shot: int
    tasks: int
    support_pooling: SupportPooling
    query_pooling: QueryPooling
    populations: tuple[Population, ...]

    @property
    def key(self) -> str:
        """Stem of the name of its file of task results."""
        return f"{self.shot}shot-{self.support_pooling}-{self.query_pooling}"


@dataclass(frozen=True)
class EvaluationJob:
    """All settings evaluated on one network, as trained or adapted."""

    network: NetworkJob
    adaptation: str
    settings: tuple[EvaluatedSetting, ...]

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of shots, increasing."""
        return tuple(sorted({setting.shot for setting in self.settings}))
