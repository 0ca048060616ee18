"""Settings of methods that extend a trained classifier by novel classes (paper 001)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from fewshot.config.base import GlobalPooling, Settings, SupportPooling, Views, merge
from fewshot.config.networks import ClassifierSettings, NetworkSettings
from fewshot.config.training import AugmentationSettings, OptimizerSettings


class Method(Settings):
    """What the settings of every stage-2 method have."""

    learns_from_trained: ClassVar[bool] = False
    """Whether it learns from the pooled features of the images that stage 1 was trained on."""
    method: str

    @property
    def views_of_tested(self) -> Views:
        """Of which views the features of tested images are means, pooled; 0: of each image as it is, by location."""
        return 0

    @property
    def module(self) -> str:
        """Full name of its module."""
        return f"fewshot.methods.{self.method}"


class Extension(Method):
    """What the settings of a method that extends the classifier by novel classes have."""

    gives: ClassVar[Literal["classifier"]] = "classifier"
    """What it makes of a task: a classifier of base and novel classes."""
    title: ClassVar[str] = ""
    """What tables write behind the network's own method, where no paper has another name for both."""

    @property
    def with_base(self) -> bool:
        """Whether the classifier has the base classes too; without them the only population is novel."""
        return True

    def pooling(self, network: NetworkSettings) -> SupportPooling:
        """What it makes one vector of an image with: as the network's classifier pools; of locations (`dense`), by average."""
        return network.classifier.testing[0]

    @property
    def finetuned(self) -> FinetuningSettings | None:
        """How the backbone is trained once more, in the precision of stage 1's settings; None: it is not."""
        return None

    def check_network(self, name: str, network: NetworkSettings) -> None:
        """Raise ValueError where the method cannot extend a network; its message names the network and the cure."""


class FinetuningSettings(Settings):
    """Training of all parameters on the base classes' images and the exemplars of the novel ones (paper 001, section 6.1.2)."""

    epochs: Annotated[int, Field(ge=1)] = 112
    """Passes over the training images, those of a novel class counted once however often they are drawn."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: OptimizerSettings = OptimizerSettings(
        name="rmsprop", lr=1e-4, weight_decay=0.0, head_factor=10.0, smoothing=0.9, epsilon=1e-5, mean_square=1.0
    )
    """Keys left out are as here, not as in stage 1. `head_factor` is the classifier's alone, for the embedding layer is trained
    already; in joint training it is of both."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.94
    """Factor by which the learning rate falls every `decay_epochs` epochs."""
    decay_epochs: Annotated[int, Field(ge=1)] = 4
    balanced: bool = True
    """True: novel classes are drawn as often as base classes; false: every image is drawn with the same probability."""
    augmentation: AugmentationSettings | None = None
    """None: that of stage 1."""
    measure_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between two points of the curves of accuracy."""

    @field_validator("optimizer", mode="before")
    @classmethod
    def _over_these_defaults(cls, value: object) -> object:
        usual = cls.model_fields["optimizer"].get_default().as_dict()
        if not isinstance(value, Mapping):
            return value
        if value.get("name", usual["name"]) != usual["name"]:  # what is RMSProp's alone would tell other optimizers' jobs apart
            usual = {key: one for key, one in usual.items() if key not in ("smoothing", "epsilon", "mean_square")}
        return merge(usual, value)


class ImprintingSettings(Extension):
    """A classifier extended by the novel classes' own embeddings (paper 001, section 4.2), and what it is compared with."""

    method: Literal["imprinting"]
    weights: Literal["imprinted", "random", "nearest"] = "imprinted"
    """Of novel classes. `imprinted`: the mean of normalised embeddings; `random`: Xavier uniform; `nearest`: every exemplar."""
    views: Annotated[int, Field(ge=0)] = 0
    """Augmented views of each exemplar to imprint from (the paper's Aug: 5); 0: the exemplar itself."""
    classes: Literal["all", "novel"] = "all"
    """`all`: beside the base classes; `novel`: in their place (transfer; the only population is then novel)."""
    finetuning: FinetuningSettings | None = None

    @model_validator(mode="after")
    def _one_vector_a_class(self) -> Self:
        if self.weights != "imprinted" and self.views:
            raise ValueError(f"views are of imprinted weights; with weights: {self.weights} set views to 0")
        if self.weights == "nearest" and self.finetuning is not None:
            raise ValueError("weights: nearest keeps every exemplar and has nothing to fine-tune; use imprinted or random")
        return self

    @property
    def with_base(self) -> bool:
        """Not in transfer."""
        return self.classes == "all"

    @property
    def finetuned(self) -> FinetuningSettings | None:
        """If asked for."""
        return self.finetuning

    def check_network(self, name: str, network: NetworkSettings) -> None:
        """A class weight is an embedding of an image."""
        classifier = network.classifier
        usual = classifier.kind == "cosine" or (classifier.kind == "none" and self.classes == "novel")
        if not usual or classifier.pooling not in ("gap", "gmp"):
            raise ValueError(
                f"imprinting makes one embedding of an image a class weight; network {name!r} has a {classifier.kind} "
                f"classifier of {classifier.pooling} features: train one with kind: cosine, pooling: gap or gmp"
            )


class JointClassifierSettings(ClassifierSettings):
    """A classifier of base and novel classes, of one vector an image: no other is named or compared apart in results."""

    kind: Literal["cosine", "linear"] = "linear"
    pooling: GlobalPooling = "gap"


class JointTrainingSettings(Extension):
    """A network trained on base and novel classes at once, from where stage 1 started (paper 001, AllClassJoint)."""

    method: Literal["joint_training"]
    classifier: JointClassifierSettings = JointClassifierSettings()
    """The paper's has no normalisation (`linear`); `cosine` makes the comparison with imprinting fair."""
    finetuning: FinetuningSettings = FinetuningSettings()

    @property
    def finetuned(self) -> FinetuningSettings | None:
        """Always."""
        return self.finetuning

    def pooling(self, network: NetworkSettings) -> SupportPooling:
        """Its own classifier's: of the network it takes the backbone alone."""
        return self.classifier.pooling


class ActivationMappingSettings(Extension):
    """Class weights predicted from activations by a mapping learnt on the base classes (paper 004)."""

    title: ClassVar[str] = "Act2Param"
    learns_from_trained: ClassVar[bool] = True
    method: Literal["activation_to_parameter"]
    iterations: Annotated[int, Field(ge=1)] = 12_500
    """Each with one statistic and one query of every class that the network was trained on."""
    mean_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Probability that the statistic of a class is its mean activation; else it is a single one, drawn at random."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    views: Views = 0
    """Test images are means over so many augmented views, augmented as in stage 1; `ten_crops`: over the corners and the centre
    of each and their mirror images, cropped as stage 1's `augmentation.crop`, as in the paper; 0: each image as it is."""

    @property
    def views_of_tested(self) -> Views:
        """See `Method`."""
        return self.views

    def check_network(self, name: str, network: NetworkSettings) -> None:
        """An activation is one vector of an image."""
        pooling = network.classifier.pooling
        if pooling not in ("gap", "gmp"):
            raise ValueError(
                f"activation_to_parameter maps one activation of an image to a class weight; network {name!r} classifies "
                f"{pooling} features: train one with pooling: gap or gmp"
            )


ExtensionSettings = ImprintingSettings | JointTrainingSettings | ActivationMappingSettings
"""Methods that extend the classifier."""
