"""Settings of networks and of their training (stage 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from fewshot.config.base import Name, Settings, merge
from fewshot.config.episodic import DistanceSettings, EpisodicSettings, LiftedStructuredSettings

Widths = tuple[
    Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]


class _Backbone(Settings):
    family: ClassVar[str]
    """Module of `fewshot.models.backbones` that builds it."""

    @property
    def module(self) -> str:
        """Full name of the family's module."""
        return f"fewshot.models.backbones.{self.family}"

    @property
    def shape(self) -> str:
        """What tells it from others of its name, in words: the widths of its blocks."""
        return "-".join(map(str, getattr(self, "widths", ())))


class ResNet12Settings(_Backbone):
    """Four residual blocks of three 3x3 convolutions (paper 000, section 5.1)."""

    family: ClassVar[str] = "resnet12"
    name: Literal["resnet12"]
    widths: Widths = (64, 128, 256, 512)
    wide: Annotated[int, Field(ge=0)] = 0
    """Channels added to the last block (the paper's WIDE baseline: 16)."""


class C128FSettings(_Backbone):
    """Four 3x3 convolutions, 64-64-128-128, no ReLU after the last (paper 000, Table 1; Gidaris and Komodakis)."""

    family: ClassVar[str] = "convnet"
    name: Literal["c128f"]
    widths: Widths = (64, 64, 128, 128)


class Conv64Settings(_Backbone):
    """Four 3x3 convolutions of 64 channels, ReLU after each (prototypical networks)."""

    family: ClassVar[str] = "convnet"
    added: ClassVar[frozenset[str]] = frozenset({"last_pool", "batch_norm_init"})
    name: Literal["conv64"]
    widths: Widths = (64, 64, 64, 64)
    last_pool: bool = True
    """Max-pool after the last block too; False: paper 002 on Omniglot, 3x3 locations of 28 px images."""
    batch_norm_init: Literal["ones", "uniform"] = "ones"
    """Scales of batch normalisation at the start: 1, or from U(0, 1) as PyTorch drew them up to 1.1."""


class WideResNetSettings(_Backbone):
    """Wide residual network (Zagoruyko and Komodakis 2016); WRN-28-10 by default."""

    family: ClassVar[str] = "wide_resnet"
    name: Literal["wide_resnet"]
    depth: Annotated[int, Field(ge=10)] = 28
    """Convolutions: 4 + 6 n."""
    width: Annotated[int, Field(ge=1)] = 10
    """Multiple of 16, 32 and 64 channels."""

    @model_validator(mode="after")
    def _whole_blocks(self) -> Self:
        if (self.depth - 4) % 6:
            raise ValueError(f"depth of a wide_resnet is 4 + 6 n (10, 16, 22, 28, ...), not {self.depth}")
        return self

    @property
    def shape(self) -> str:
        """See above."""
        return f"{self.depth}-{self.width}"


class TorchvisionSettings(_Backbone):
    """GoogLeNet (Inception v1), ResNet-18 or ResNet-50 of torchvision, without their classifiers (paper 001)."""

    family: ClassVar[str] = "torchvision"
    name: Literal["googlenet", "resnet18", "resnet50"]
    weights: Annotated[str, Field(min_length=1)] = "none"
    """`imagenet`: torchvision's ImageNet-1k weights; `none`: random ones; else a file: a state dict (.pth, .safetensors)."""

    @property
    def shape(self) -> str:
        """See above: where its weights come from."""
        return f"weights: {self.weights}"


BackboneSettings = Annotated[
    ResNet12Settings | C128FSettings | Conv64Settings | WideResNetSettings | TorchvisionSettings, Field(discriminator="name")
]


class ClassifierSettings(Settings):
    """The stage-1 classifier and what it sees of the feature map."""

    kind: Literal["cosine", "linear", "none"] = "cosine"
    """`none`: for episodic training, which has prototypes in place of class weights."""
    pooling: Literal["gap", "gmp", "dense", "flatten"] = "gap"
    """`dense`: every location is classified against the shared weights (eq. 9-10). Of episodic training: what is compared."""
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Initial scale tau of the cosine classifier (eq. 7)."""
    learn_scale: bool = True


class OptimizerSettings(Settings):
    """The optimizer of stage 1."""

    added: ClassVar[frozenset[str]] = frozenset({"head_factor"})
    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd and rmsprop."""
    nesterov: bool = True
    """For sgd."""
    head_factor: Annotated[float, Field(gt=0)] = 1.0
    """Learning rate of embedding layer and classifier as a multiple of the backbone's: above 1 for new layers."""


class ScheduleSettings(Settings):
    """Learning rate over training as a factor of the optimizer's."""

    added: ClassVar[frozenset[str]] = frozenset({"decay", "decay_every"})
    kind: Literal["steps", "exponential", "cosine", "constant"] = "steps"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (1 / 3, 2 / 3, 5 / 6)
    """For steps: shares of the training after which the next factor holds."""
    factors: tuple[Annotated[float, Field(gt=0)], ...] = (0.06, 0.012, 0.0024)
    """For steps: the factor after each milestone (1 before the first)."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.94
    """For exponential: the factor by which the rate falls every `decay_every` iterations."""
    decay_every: Annotated[int, Field(ge=1)] = 100
    """For exponential: iterations between two falls."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Iterations of linear warm-up from zero."""

    @model_validator(mode="after")
    def _steps_match(self) -> Self:
        if len(self.milestones) != len(self.factors) or list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase, and there must be one factor for each")
        return self


Area = Annotated[float, Field(gt=0, le=1)]


class AugmentationSettings(Settings):
    """Batched augmentation on the device; applied in this order."""

    added: ClassVar[frozenset[str]] = frozenset({"crop"})
    crop: Annotated[int, Field(ge=16)] | None = None
    """Side of random crops from the larger images of the store; at testing the central crop. None: the whole image."""
    crop_padding: Annotated[int, Field(ge=0)] | None = None
    """Zero padding before a random crop back to the image size, in pixels (none: 4 at 32 px, 8 at 84 px)."""
    resized_crop: tuple[Area, Area] | None = None
    """Range of the area share of a random resized crop; replaces the padded crop."""
    flip: bool = True
    color_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Strength of brightness, contrast and saturation jitter."""

    @model_validator(mode="after")
    def _crop_range(self) -> Self:
        if self.resized_crop is not None and self.resized_crop[0] > self.resized_crop[1]:
            raise ValueError("resized_crop is a range: the smaller share first")
        if self.crop is not None and (self.crop_padding is not None or self.resized_crop is not None):
            raise ValueError("crop takes the place of crop_padding and resized_crop; give one of them")
        return self


class ValidationSettings(Settings):
    """Few-shot accuracy on the validation classes along the way; decides which state is kept."""

    added: ClassVar[frozenset[str]] = frozenset({"patience"})

    every: Annotated[int, Field(ge=0)] = 500
    """Iterations between validations (0: never; then `keep` must be `last`)."""
    way: Annotated[int, Field(ge=2)] = 5
    shot: Annotated[int, Field(ge=1)] = 5
    queries: Annotated[int, Field(ge=1)] = 15
    tasks: Annotated[int, Field(ge=1)] = 500
    images_per_class: Annotated[int, Field(ge=2)] | None = None
    """Use only so many images of each validation class (none: all)."""
    keep: Literal["best", "last"] = "best"
    """`best`: the state of the best validation accuracy (ties: the later); `last`: the final state."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """End the training after so many validations in a row without a better one (none: train all iterations)."""

    @model_validator(mode="after")
    def _best_needs_validation(self) -> Self:
        if self.keep == "best" and self.every == 0:
            raise ValueError("keep: best needs validation; set `every` above 0 or `keep: last`")
        if self.patience is not None and self.every == 0:
            raise ValueError("patience needs validation; set `every` above 0")
        return self


class RotationSettings(Settings):
    """Self-supervision beside the classes: by how many quarter turns was the image turned? (Gidaris et al., ICLR 2018)."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the rotation loss beside that of the classes."""
    views: Literal["all", "one"] = "all"
    """`all`: every image in all four rotations (an iteration costs four times as much); `one`: in one drawn at random."""


class DistillationSettings(Settings):
    """A trained network's probabilities as targets beside the labels (Hinton et al. 2015; few-shot: Tian et al., ECCV 2020)."""

    teacher: Name
    """A network of `stage1.networks` that stands above this one; of the same seed."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the distillation in the loss; the labels have the rest."""
    temperature: Annotated[float, Field(gt=0)] = 4.0


class ClassificationSettings(Settings):
    """Cross-entropy over the base classes (paper 000, eq. 8 and 10). What is added to it is not of the paper."""

    module: ClassVar[str] = "fewshot.objectives.classification"
    kind: Literal["classification"] = "classification"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rotation: RotationSettings | None = None
    distillation: DistillationSettings | None = None


def _kind(value: Any) -> Any:
    return value.get("kind", "classification") if isinstance(value, Mapping) else getattr(value, "kind", None)


ObjectiveSettings = Annotated[
    Annotated[ClassificationSettings, Tag("classification")]
    | Annotated[EpisodicSettings, Tag("episodic")]
    | Annotated[LiftedStructuredSettings, Tag("lifted_structured")],
    Discriminator(_kind),
]
"""What a training minimises; without a `kind`, classification."""


class TrainingSettings(Settings):
    """Stage 1. Defaults: the best-supported recipe for miniImageNet (paper 000 leaves most of it out)."""

    incidental: ClassVar[frozenset[str]] = frozenset({"log_every", "save_every"})
    added: ClassVar[frozenset[str]] = frozenset({"objective", "classes"})

    iterations: Annotated[int, Field(ge=1)] = 8000
    batch_size: Annotated[int, Field(ge=2)] = 200
    """Images an iteration; of episodic training its task decides that."""
    classes: Literal["base", "base+val"] = "base"
    """`base+val`: on the validation classes too, whose accuracy then says nothing (validation: {every: 0, keep: last})."""
    objective: ObjectiveSettings = ClassificationSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    validation: ValidationSettings = ValidationSettings()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast on CUDA, float32 elsewhere."""
    compile: bool = False
    """Compile the network with torch.compile."""
    log_every: Annotated[int, Field(ge=1)] = 50
    """Iterations between lines in metrics.jsonl."""
    save_every: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between saved training states."""

    @model_validator(mode="after")
    def _no_validation_on_what_was_trained(self) -> Self:
        if self.classes == "base+val" and self.validation.every:
            raise ValueError("classes: base+val leaves nothing to validate on; set validation to {every: 0, keep: last}")
        return self

    @property
    def distillation(self) -> DistillationSettings | None:
        """What is learnt from a teacher, if anything."""
        return self.objective.distillation if isinstance(self.objective, ClassificationSettings) else None


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
