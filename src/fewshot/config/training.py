"""Settings of stage 1: optimizer, schedule, augmentation, validation, objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from fewshot.config.base import Name, Settings
from fewshot.config.episodic import EpisodicSettings, LiftedStructuredSettings


class OptimizerSettings(Settings):
    """The optimizer of stage 1."""

    added: ClassVar[frozenset[str]] = frozenset({"head_factor", "smoothing", "epsilon", "mean_square"})
    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """With sgd, adam and rmsprop added to the gradient (L2 term); with adamw decoupled from it."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd and rmsprop."""
    nesterov: bool = True
    """For sgd."""
    head_factor: Annotated[float, Field(gt=0)] = 1.0
    """Learning rate of embedding layer and classifier as a multiple of the backbone's: above 1 for new layers."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """For rmsprop: what the running mean of squared gradients keeps of itself in a step."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """For rmsprop: added to the root of that mean."""
    mean_square: Annotated[float, Field(ge=0)] = 0.0
    """For rmsprop: what that mean begins at. From 0 the first step is ten times the learning rate long (smoothing 0.99),
    whatever the gradient, and momentum adds to it; from 1 it is as short as the gradient is small."""


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

    added: ClassVar[frozenset[str]] = frozenset({"crop", "lighting"})
    crop: Annotated[int, Field(ge=16)] | None = None
    """Side of random crops from the larger images of the store; at testing the central crop. None: the whole image. With
    `resized_crop` those crops are scaled to this side."""
    crop_padding: Annotated[int, Field(ge=0)] | None = None
    """Zero padding before a random crop back to the image size, in pixels (none: 4 at 32 px, 8 at 84 px)."""
    resized_crop: tuple[Area, Area] | None = None
    """Range of the area share of a random resized crop; replaces the padded crop."""
    flip: bool = True
    color_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Strength of brightness, contrast and saturation jitter."""
    lighting: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Deviation of shifts along the principal components of ImageNet's colours (Krizhevsky et al. 2012, section 4.1)."""

    @model_validator(mode="after")
    def _crop_range(self) -> Self:
        if self.resized_crop is not None and self.resized_crop[0] > self.resized_crop[1]:
            raise ValueError("resized_crop is a range: the smaller share first")
        if self.crop is not None and self.crop_padding is not None:
            raise ValueError("crop takes the place of crop_padding; give one of them")
        return self


class ValidationSettings(Settings):
    """Accuracy along the way; decides which state is kept."""

    added: ClassVar[frozenset[str]] = frozenset({"patience", "measure"})

    every: Annotated[int, Field(ge=0)] = 500
    """Iterations between validations (0: never; then `keep` must be `last`)."""
    measure: Literal["few_shot", "classification"] = "few_shot"
    """`few_shot`: on tasks of the validation classes; `classification`: by the network's own classifier, on images held out of
    the classes that it is trained on (`dataset.held_out`), for which the four settings of tasks count for nothing."""
    way: Annotated[int, Field(ge=2)] = 5
    shot: Annotated[int, Field(ge=1)] = 5
    queries: Annotated[int, Field(ge=1)] = 15
    tasks: Annotated[int, Field(ge=1)] = 500
    images_per_class: Annotated[int, Field(ge=2)] | None = None
    """Use only so many images of each class (none: all)."""
    keep: Literal["best", "last"] = "best"
    """`best`: the state of the best validation accuracy (ties: the later); `last`: the final state."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """End the training after so many validations in a row without a better one; an equal one is none. None: train it all."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_measured(cls, data: Any) -> Any:
        """Without validation what it would measure makes no other network."""
        off = isinstance(data, Mapping) and data.get("every") == 0
        return {key: value for key, value in data.items() if key != "measure"} if off else data

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.keep == "best" and self.every == 0:
            raise ValueError("keep: best needs validation; set `every` above 0 or `keep: last`")
        if self.patience is not None and self.every == 0:
            raise ValueError("patience needs validation; set `every` above 0")
        taken = self.shot + self.queries
        few = self.images_per_class is not None and self.images_per_class < taken
        if self.every and self.measure == "few_shot" and few:
            raise ValueError(
                f"images_per_class is {self.images_per_class}, but a task takes {self.shot} + {self.queries} images of a "
                f"class: set it to {taken} or more"
            )
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
    """Stage 1. Defaults: the recipe of Gidaris and Komodakis for miniImageNet (paper 000 leaves most of it out)."""

    incidental: ClassVar[frozenset[str]] = frozenset({"log_every", "save_every"})
    added: ClassVar[frozenset[str]] = frozenset({"objective", "classes"})

    iterations: Annotated[int, Field(ge=1)] = 8000
    batch_size: Annotated[int, Field(ge=2)] = 200
    """Images an iteration; of episodic training its task decides that."""
    classes: Literal["base", "base+val"] = "base"
    """`base+val`: on the validation classes too, whose few-shot accuracy then says nothing: validation is off, or `measure:
    classification`."""
    objective: ObjectiveSettings = ClassificationSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    validation: ValidationSettings = ValidationSettings()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast on CUDA, float32 elsewhere; the backbone's convolutions of float32 are in TF32 on CUDA."""
    compile: bool = False
    """Compile the network with torch.compile."""
    log_every: Annotated[int, Field(ge=1)] = 50
    """Iterations between lines in metrics.jsonl."""
    save_every: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between saved training states."""

    @model_validator(mode="after")
    def _no_validation_on_what_was_trained(self) -> Self:
        if self.classes == "base+val" and self.validation.every and not self.holds_out:
            raise ValueError(
                "classes: base+val leaves no classes to validate on; set validation to {every: 0, keep: last}, or "
                "validation.measure to classification"
            )
        return self

    @property
    def holds_out(self) -> bool:
        """Whether images of every class that is trained on are kept for validation."""
        return self.validation.every > 0 and self.validation.measure == "classification"

    @property
    def parts(self) -> tuple[Literal["base", "val"], ...]:
        """Parts of the store that are trained on."""
        return ("base", "val") if self.classes == "base+val" else ("base",)

    @property
    def images_an_iteration(self) -> int:
        """Images that an iteration really takes: `batch_size`, or those of the objective's task or of its pairs."""
        objective = self.objective
        return self.batch_size if isinstance(objective, ClassificationSettings) else objective.way * objective.images

    @property
    def distillation(self) -> DistillationSettings | None:
        """What is learnt from a teacher, if anything."""
        return self.objective.distillation if isinstance(self.objective, ClassificationSettings) else None
