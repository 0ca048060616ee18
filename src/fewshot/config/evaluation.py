"""Settings of stage 2 and of the evaluation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fewshot.config.base import GlobalPooling, Name, Pooling, Population, Seed, Settings
from fewshot.config.extension import ExtensionSettings, Method


class ImplantingSettings(Method):
    """Implants beside the convolutions of the last residual block (paper 000, section 3.2)."""

    gives: ClassVar[Literal["features"]] = "features"
    """What it makes of a task: channels beside the network's own features of its images."""
    method: Literal["implanting"]
    width: Annotated[int, Field(ge=0)] = 16
    """Channels of each implant."""
    epochs: Annotated[int, Field(ge=0)] = 50
    """Full-batch steps over the leave-one-out subtasks."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Unpublished, as are `shortcut`, `batch_norm`, `batch_norm_init`, `init`. These were chosen on validation classes, of
    which FC100's want a larger rate and miniImageNet's a smaller (docs/measured/study_implants_cpu.md, study_fc100_cpu.md)."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Scale tau of the leave-one-out loss; at testing `evaluation.scale` or the network's own holds."""
    support_pooling: GlobalPooling = "gap"
    query_pooling: Pooling = "gap"
    """`gap` or `gmp`: eq. 11; `dense`: eq. 12."""
    shortcut: bool = True
    """Widen the residual shortcut too, by a 1x1 convolution. Unpublished."""
    batch_norm: bool = True
    """Batch normalisation of the implants over the task's support set. Unpublished."""
    batch_norm_init: Literal["ones", "block"] = "block"
    """Where its gains and biases begin. `ones`: gains of one, biases of zero; `block`: the means of the block's own (of gains
    their size), so that implants are as long as its other channels, which a cosine sees. Unpublished."""
    init: Literal["he_normal", "fan_in"] = "fan_in"
    """Normal; `he_normal`: He et al.'s deviation, fan-out; `fan_in`: that of PyTorch's own convolutions, less. Unpublished."""


AdaptationSettings = Annotated[ImplantingSettings | ExtensionSettings, Field(discriminator="method")]
"""Stage-2 methods."""


AS_TRAINED = "as-trained"
"""Stands where an adaptation's name would stand when the network is evaluated as stage 1 left it."""
POOLINGS = r"^(flatten/flatten|(gap|gmp)/(gap|gmp|dense))$"


class EvaluatedSettings(Settings):
    """A block of evaluated settings: every network x shot x pooling pair named here."""

    networks: tuple[Name, ...] = Field(min_length=1)
    adaptation: Name | None = None
    """A method of `stage2`; none: the network as trained."""
    poolings: tuple[Annotated[str, Field(pattern=POOLINGS)], ...] = Field(("gap/gap",), min_length=1)
    """`support/query` pooling at testing (paper 000, section 3.3). Adaptations that extend the classifier pool as it does."""
    populations: tuple[Population, ...] = Field(("novel",), min_length=1)
    shots: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """None: the evaluation's shots."""
    tasks: Annotated[int, Field(ge=1)] | None = None
    """At most so many tasks (none: all of the evaluation's): the first of the same tasks, so that differences stay paired."""


class EvaluationSettings(Settings):
    """Tasks and what is evaluated on them."""

    part: Literal["test", "val"] = "test"
    """Part of the classes the tasks are drawn from. Choices are made on `val`; `test` is for the numbers that are reported.
    Held-out images of base classes, of which the other populations are, are the same for both: choose by `novel`."""
    way: Annotated[int, Field(ge=2)] | Literal["all"] = 5
    """Classes in a task. `all`: every class of the part, in every task; a task is then a draw of its exemplars."""
    shots: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 5, 10), min_length=1)
    queries: Annotated[int, Field(ge=1)] | Literal["all", "remaining"] = 30
    """Queries per class. `all` (with `way: all`): every test image of the novel and of the base classes, in every task;
    `remaining`: every image of the task's classes that is not support (paper 004)."""
    tasks: Annotated[int, Field(ge=2)] = 10_000
    seed: Seed = 0
    """Seed of the tasks."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Scale tau of dense queries (eq. 14), adapted or not; none: the network's own, as stage 1 left it; of a linear
    classifier, which has none, its `classifier.scale`."""
    tests: tuple[EvaluatedSettings, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _all_or_some(self) -> Self:
        if (self.way == "all") != (self.queries == "all"):
            raise ValueError("way: all and queries: all go together; a number of classes goes with queries: remaining")
        return self


class ClassVectorSettings(Settings):
    """Figure of paper 004's README: mean activations of the classes beside the classifier's parameters, by t-SNE."""

    network: Name
    """A network trained to classify `gap` or `gmp` features; of the first seed."""
    images_per_class: Annotated[int, Field(ge=1)] = 100
    """Training images whose activations are averaged."""
    seed: Seed = 0
    """Of t-SNE."""


class ActivationMapSettings(Settings):
    """Figure 3 of paper 000: class activation maps of a GAP-trained beside a DC-trained network."""

    networks: tuple[Name, Name]
    """The GAP-trained and the DC-trained network."""
    shot: Annotated[int, Field(ge=1)] = 5
    """Novel images are judged against prototypes of so many images."""
    images_per_case: Annotated[int, Field(ge=1, le=8)] = 2
