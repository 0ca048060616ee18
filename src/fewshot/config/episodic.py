"""Settings of episodic training: prototypical networks and their distances."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fewshot.config.base import Settings


class SquaredEuclideanSettings(Settings):
    """Squared Euclidean distance (Snell et al. 2017)."""

    name: Literal["squared_euclidean"] = "squared_euclidean"


class LeakySquaredEuclideanSettings(Settings):
    """Leaky squared Euclidean distance (paper 002, eq. 6): d up to `s`, s + r (d - s) beyond."""

    name: Literal["leaky_squared_euclidean"]
    s: Annotated[float, Field(ge=0)] = 0.0
    """Where the leak begins."""
    r: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Slope beyond `s`; 1 is the squared Euclidean distance."""


class CosineDistanceSettings(Settings):
    """tau (1 - cosine)."""

    name: Literal["cosine"]
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Scale tau, fixed."""


DistanceSettings = Annotated[
    SquaredEuclideanSettings | LeakySquaredEuclideanSettings | CosineDistanceSettings, Field(discriminator="name")
]


class EpisodicSettings(Settings):
    """Prototypical networks (Snell et al. 2017; paper 002): an iteration is a task, queries are held against its prototypes."""

    module: ClassVar[str] = "fewshot.objectives.prototypical"
    kind: Literal["episodic"]
    way: Annotated[int, Field(ge=2)] = 20
    """Classes a task in training; usually more than at testing."""
    shot: Annotated[int, Field(ge=1)] = 1
    queries: Annotated[int, Field(ge=1)] = 15
    """Queries per class."""
    distance: DistanceSettings = SquaredEuclideanSettings()
    histograms: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Numbers of iterations after which the distances of a task and the loss's gradients by them are kept as histograms."""

    @property
    def images(self) -> int:
        """Images a class in a task."""
        return self.shot + self.queries


class LiftedStructuredSettings(Settings):
    """The lifted structured loss (Oh Song et al. 2016), with which paper 001 compares: embeddings by pairs of a batch."""

    module: ClassVar[str] = "fewshot.objectives.lifted_structured"
    kind: Literal["lifted_structured"]
    way: Annotated[int, Field(ge=2)] = 16
    """Classes a batch."""
    images: Annotated[int, Field(ge=2)] = 4
    """Images of each class in a batch."""
    margin: Annotated[float, Field(gt=0)] = 1.0
    """alpha of the loss."""
    normalise: bool = True
    """Embeddings of unit length, as paper 001 has them."""
