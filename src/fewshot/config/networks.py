"""Settings of networks: backbone, embedding, classifier, and how they are trained (stage 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fewshot.config.backbones import BackboneSettings
from fewshot.config.base import Name, QueryPooling, Settings, SupportPooling, merge
from fewshot.config.episodic import DistanceSettings, EpisodicSettings, LiftedStructuredSettings
from fewshot.config.training import TrainingSettings


class ClassifierSettings(Settings):
    """The stage-1 classifier and what it sees of the feature map."""

    kind: Literal["cosine", "linear", "none"] = "cosine"
    """`none`: for episodic training, which has prototypes in place of class weights, and for the lifted structured loss."""
    pooling: Literal["gap", "gmp", "dense", "flatten"] = "gap"
    """`dense`: every location is classified against the shared weights (eq. 9-10). Of episodic training: what is compared."""
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Initial scale tau of the cosine classifier (eq. 7); of a linear one the scale of dense queries at testing (eq. 14)."""
    learn_scale: bool = True

    @property
    def testing(self) -> tuple[SupportPooling, QueryPooling]:
        """Pooling of support and of queries at testing: what the network was trained with, on both sides.

        Of networks trained densely GAP on support and dense queries (paper 000, Tables 4 and 5).
        """
        return ("gap", "dense") if self.pooling == "dense" else (self.pooling, self.pooling)


class NetworkSettings(Settings):
    """One network of stage 1."""

    added: ClassVar[frozenset[str]] = frozenset({"embedding"})
    backbone: BackboneSettings
    embedding: Annotated[int | None, Field(ge=1)] = None
    """Width D of an embedding layer, linear, between the backbone and the classifier; none: no such layer."""
    classifier: ClassifierSettings = ClassifierSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _classifier_of_the_objective(self) -> Self:
        episodic = isinstance(self.training.objective, EpisodicSettings | LiftedStructuredSettings)
        if episodic != (self.classifier.kind == "none"):
            raise ValueError(
                "episodic training and the lifted structured loss have no class weights, and classification needs them: "
                "objective {kind: episodic} and classifier {kind: none} go together, and so do lifted_structured and none"
            )
        if episodic and self.classifier.pooling == "dense":
            raise ValueError(
                "training without class weights compares one vector an image: classifier.pooling is flatten, gap or gmp"
            )
        if episodic and self.training.holds_out:
            raise ValueError(
                "training without class weights has no classifier to validate: training.validation.measure is few_shot"
            )
        return self

    @property
    def distance(self) -> DistanceSettings | None:
        """The distance it was trained with and is tested with; None: cosines, of a network trained to classify."""
        return self.training.objective.distance if isinstance(self.training.objective, EpisodicSettings) else None


class Stage1Settings(Settings):
    """The networks of a run."""

    training: dict[str, Any] = Field({})
    """Training settings of all networks of the run; a network's own `training` is laid over it, key by key, at every depth."""
    networks: dict[Name, NetworkSettings] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _share_training(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("networks"), Mapping):
            return data
        shared = data.get("training") or {}
        networks = {}
        for name, network in data["networks"].items():
            own = isinstance(network, Mapping)
            networks[name] = {**network, "training": merge(shared, network.get("training") or {})} if own else network
        return {**data, "networks": networks}
