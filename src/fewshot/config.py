"""Typed settings of a run: the only home of defaults. Unknown keys are refused.

`workflow/schemas/config.schema.json` is generated from this module (`fewshot schema`). A key's comment in
`config/README.md` and its description here say the same thing once: here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fewshot.errors import ConfigError

Pooling = Literal["gap", "gmp", "dense"]
GlobalPooling = Literal["gap", "gmp"]
Population = Literal["novel", "base", "both"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$", max_length=64)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, numbers checked for being finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON-able values, every default spelled out."""
        return self.model_dump(mode="json")

    def key(self, *without: str) -> str:
        """Ten hexadecimal digits of the settings' hash, the fields named in `without` left out."""
        return content_hash({k: v for k, v in self.as_dict().items() if k not in without})[:10]


def content_hash(value: Any) -> str:
    """SHA-256 (hexadecimal) of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# --- data sets -------------------------------------------------------------------------------------------------------


class _Dataset(Settings):
    image_size: Annotated[int, Field(ge=8, le=1024)]
    """Side of the square images in the store, in pixels."""
    held_out: Share = 1 / 6
    """Share of each base class's images kept out of stage 1, for testing on base classes (0: none)."""
    seed: int = 0
    """Seed of the held-out choice and of any drawn split."""
    raw: str = "data/raw"
    """Folder that holds the archives."""
    hashes: dict[str, str] = {}
    """Archive file name -> `sha256:...`, `md5:...` or `none` (unchecked; the report says so), in place of the known hash."""

    @field_validator("hashes")
    @classmethod
    def _hash_form(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            kind, _, digits = text.partition(":")
            if text != "none" and (len(digits) != {"sha256": 64, "md5": 32}.get(kind) or set(digits) - set("0123456789abcdef")):
                raise ValueError(
                    f"hash of {name} must be 'sha256:<64 hex digits>', 'md5:<32 hex digits>' or 'none', not {text!r}"
                )
        return value


class GlyphsSettings(_Dataset):
    """Drawn figures: the embedded demonstration set. No archive."""

    name: Literal["glyphs"]
    image_size: Annotated[int, Field(ge=16, le=256)] = 32
    classes: Annotated[int, Field(ge=8, le=1000)] = 100
    images_per_class: Annotated[int, Field(ge=4, le=10_000)] = 60


class Fc100Settings(_Dataset):
    """CIFAR-100 split by superclass: 60 / 20 / 20 classes (facts: TADAM)."""

    name: Literal["fc100"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 32


class CifarFsSettings(_Dataset):
    """CIFAR-100 split at random: 64 / 16 / 20 classes."""

    name: Literal["cifar_fs"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 32


class MiniImageNetSettings(_Dataset):
    """miniImageNet with the split of Ravi and Larochelle: 64 / 16 / 20 classes."""

    name: Literal["miniimagenet"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 84
    layout: Literal["images", "pickles"] = "images"
    """`images`: miniimagenet.tar with images/ and the split csv files; `pickles`: the three mini-imagenet-cache-*.pkl files."""


class CubSettings(_Dataset):
    """CUB-200-2011 birds."""

    name: Literal["cub"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 84
    split: Literal["few_shot", "halves"] = "few_shot"
    """`few_shot`: 100 / 50 / 50 classes; `halves`: first 100 base, last 100 novel, the official test images held out."""
    partial: bool = False
    """Accept an archive that holds only a part of the 200 classes (the report says so)."""


class OmniglotSettings(_Dataset):
    """Omniglot with the split of Vinyals: 1,028 / 172 / 423 characters, each in four rotations as classes of their own."""

    name: Literal["omniglot"]
    image_size: Annotated[int, Field(ge=8, le=105)] = 28
    rotations: bool = True


class FolderSettings(_Dataset):
    """The user's own images: one folder a class."""

    name: Literal["folder"]
    image_size: Annotated[int, Field(ge=8, le=1024)] = 84
    folder: str
    """Folder whose sub-folders are the classes."""
    split: str | None = None
    """CSV file with the columns class,part (part: base, val or test); none: drawn from `shares` and `seed`."""
    shares: tuple[float, float, float] = (0.64, 0.16, 0.2)
    """Shares of the classes in base, val and test when the split is drawn."""

    @field_validator("shares")
    @classmethod
    def _shares_sum(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("shares must be three non-negative numbers that sum to 1")
        return value


DatasetSettings = Annotated[
    GlyphsSettings | Fc100Settings | CifarFsSettings | MiniImageNetSettings | CubSettings | OmniglotSettings | FolderSettings,
    Field(discriminator="name"),
]


# --- networks and stage 1 --------------------------------------------------------------------------------------------

Widths = tuple[
    Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]


class ResNet12Settings(Settings):
    """Four residual blocks of three 3x3 convolutions (paper 000, section 5.1)."""

    name: Literal["resnet12"]
    widths: Widths = (64, 128, 256, 512)
    wide: Annotated[int, Field(ge=0)] = 0
    """Channels added to the last block (the paper's WIDE baseline: 16)."""


class C128FSettings(Settings):
    """Four 3x3 convolutions, 64-64-128-128, no ReLU after the last (paper 000, Table 1; Gidaris and Komodakis)."""

    name: Literal["c128f"]
    widths: Widths = (64, 64, 128, 128)


class Conv64Settings(Settings):
    """Four 3x3 convolutions of 64 channels, ReLU after each (prototypical networks)."""

    name: Literal["conv64"]
    widths: Widths = (64, 64, 64, 64)


BackboneSettings = Annotated[ResNet12Settings | C128FSettings | Conv64Settings, Field(discriminator="name")]


class ClassifierSettings(Settings):
    """The stage-1 classifier and what it sees of the feature map."""

    kind: Literal["cosine", "linear"] = "cosine"
    pooling: Literal["gap", "gmp", "dense", "flatten"] = "gap"
    """`dense`: every location is classified against the shared weights (eq. 9-10)."""
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Initial scale tau of the cosine classifier (eq. 7)."""
    learn_scale: bool = True


class OptimizerSettings(Settings):
    """The optimizer of stage 1."""

    name: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd and rmsprop."""
    nesterov: bool = True
    """For sgd."""


class ScheduleSettings(Settings):
    """Learning rate over training as a factor of the optimizer's."""

    kind: Literal["steps", "cosine", "constant"] = "steps"
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (1 / 3, 2 / 3, 5 / 6)
    """For steps: shares of the training after which the next factor holds."""
    factors: tuple[Annotated[float, Field(gt=0)], ...] = (0.06, 0.012, 0.0024)
    """For steps: the factor after each milestone (1 before the first)."""
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
        return self


class ValidationSettings(Settings):
    """Few-shot accuracy on the validation classes along the way; decides which state is kept."""

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

    @model_validator(mode="after")
    def _best_needs_validation(self) -> Self:
        if self.keep == "best" and self.every == 0:
            raise ValueError("keep: best needs validation; set `every` above 0 or `keep: last`")
        return self


class TrainingSettings(Settings):
    """Stage 1. Defaults: the best-supported recipe for miniImageNet (paper 000 leaves most of it out)."""

    iterations: Annotated[int, Field(ge=1)] = 8000
    batch_size: Annotated[int, Field(ge=2)] = 200
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


class NetworkSettings(Settings):
    """One network of stage 1."""

    backbone: BackboneSettings
    classifier: ClassifierSettings = ClassifierSettings()
    training: TrainingSettings = TrainingSettings()

    def key(self, *without: str) -> str:
        """See Settings.key; how often a training reports and saves does not make it another training."""
        identity = self.model_dump(mode="json", exclude={"training": {"log_every", "save_every"}})
        return content_hash({k: v for k, v in identity.items() if k not in without})[:10]


class Stage1Settings(Settings):
    """The networks of a run."""

    training: dict[str, Any] = {}
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


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, key by key, at every depth; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


# --- stage 2 ---------------------------------------------------------------------------------------------------------


class ImplantingSettings(Settings):
    """Implants beside the convolutions of the last residual block (paper 000, section 3.2)."""

    method: Literal["implanting"]
    width: Annotated[int, Field(ge=0)] = 16
    """Channels of each implant."""
    epochs: Annotated[int, Field(ge=0)] = 50
    """Full-batch steps over the leave-one-out subtasks."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    scale: Annotated[float, Field(gt=0)] = 10.0
    """Scale tau of the leave-one-out loss; at testing `evaluation.scale` or the network's own holds."""
    support_pooling: GlobalPooling = "gap"
    query_pooling: Pooling = "gap"
    """`gap` or `gmp`: eq. 11; `dense`: eq. 12."""
    shortcut: bool = False
    """Widen the residual shortcut too, by a 1x1 convolution. Unpublished."""
    batch_norm: bool = True
    """Batch normalisation of the implants over the task's support set. Unpublished."""
    init: Literal["he_normal", "zero_last"] = "he_normal"
    """`zero_last`: the last implant starts at zero, so that training starts from the base network. Unpublished."""


AdaptationSettings = ImplantingSettings
"""Stage-2 methods; a union discriminated by `method` as soon as there are two."""


# --- evaluation ------------------------------------------------------------------------------------------------------


class EvaluatedSettings(Settings):
    """A block of evaluated settings: every network x shot x pooling pair named here."""

    networks: tuple[Name, ...] = Field(min_length=1)
    adaptation: Name | None = None
    """A method of `stage2`; none: the network as trained."""
    poolings: tuple[Annotated[str, Field(pattern=r"^(gap|gmp)/(gap|gmp|dense)$")], ...] = Field(("gap/gap",), min_length=1)
    """`support/query` pooling at testing (paper 000, section 3.3)."""
    populations: tuple[Population, ...] = Field(("novel",), min_length=1)
    shots: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    """None: the evaluation's shots."""
    tasks: Annotated[int, Field(ge=1)] | None = None
    """None: the evaluation's tasks. Fewer tasks are the first of the same tasks, so that differences stay paired."""


class EvaluationSettings(Settings):
    """Tasks and what is evaluated on them."""

    part: Literal["test", "val"] = "test"
    """Part of the classes the tasks are drawn from. Choices are made on `val`; `test` is for the numbers that are reported."""
    way: Annotated[int, Field(ge=2)] = 5
    shots: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 5, 10), min_length=1)
    queries: Annotated[int, Field(ge=1)] = 30
    """Queries per class."""
    tasks: Annotated[int, Field(ge=2)] = 10_000
    seed: int = 0
    """Seed of the tasks."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Scale tau of dense queries (eq. 14), adapted or not; none: the network's learned scale."""
    tests: tuple[EvaluatedSettings, ...] = Field(min_length=1)


class ActivationMapSettings(Settings):
    """Figure 3 of paper 000: class activation maps of a GAP-trained beside a DC-trained network."""

    networks: tuple[Name, Name]
    """The GAP-trained and the DC-trained network."""
    shot: Annotated[int, Field(ge=1)] = 5
    """Novel images are judged against prototypes of so many images."""
    images_per_case: Annotated[int, Field(ge=1, le=8)] = 2


# --- the run ---------------------------------------------------------------------------------------------------------


class RunConfig(Settings):
    """All settings of one run."""

    run: Name
    """Name of the run; its results lie in results/<run>/."""
    title: str = ""
    notes: tuple[str, ...] = ()
    """Sentences shown at the head of the report."""
    deviations: tuple[str, ...] = ()
    """What differs from the paper, in words, beyond what the pipeline finds by itself; one entry each."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: CUDA where there is one, and the log says which; `cuda`: an error where there is none."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(default=(0,), min_length=1)
    """One training of every network for each seed."""
    dataset: DatasetSettings
    stage1: Stage1Settings
    stage2: dict[Name, AdaptationSettings] = {}
    evaluation: EvaluationSettings
    activation_maps: ActivationMapSettings | None = None

    @model_validator(mode="after")
    def _references(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must differ")
        if self.dataset.image_size < 16:
            raise ValueError(f"dataset.image_size is {self.dataset.image_size}: the four 2x2 poolings of a backbone need 16 px")
        self._check_validation()
        for test in self.evaluation.tests:
            self._check_test(test)
            if test.adaptation is not None:
                self._check_adapted(test, test.adaptation)
        if self.activation_maps is not None:
            self._check_networks("activation_maps", self.activation_maps.networks)
            for name in self.activation_maps.networks:
                if self.stage1.networks[name].classifier.pooling == "flatten":
                    raise ValueError(f"activation_maps: network {name!r} classifies flattened features, which have no map")
        return self

    def _check_networks(self, where: str, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in self.stage1.networks:
                raise ValueError(f"{where} names the network {name!r}; stage1.networks has {', '.join(self.stage1.networks)}")

    def _check_validation(self) -> None:
        if isinstance(self.dataset, CubSettings) and self.dataset.split == "halves":
            for name, network in self.stage1.networks.items():
                if network.training.validation.every:
                    raise ValueError(
                        f"dataset.split halves has no validation classes, but network {name!r} validates: set "
                        "stage1.training.validation to {every: 0, keep: last}"
                    )

    def _check_test(self, test: EvaluatedSettings) -> None:
        self._check_networks("evaluation.tests", test.networks)
        missing = sorted(set(test.shots or ()) - set(self.evaluation.shots))
        if missing:
            raise ValueError(f"evaluation.tests asks for shots {missing}; add them to evaluation.shots")
        if (test.tasks or 1) > self.evaluation.tasks:
            raise ValueError(f"a test asks for {test.tasks} tasks; evaluation.tasks draws only {self.evaluation.tasks}")
        if set(test.populations) & {"base", "both"}:
            if self.dataset.held_out == 0:
                raise ValueError("populations base and both need held-out base images: set dataset.held_out above 0")
            for name in test.networks:
                classifier = self.stage1.networks[name].classifier
                if classifier.pooling == "flatten" or classifier.kind == "linear":
                    raise ValueError(
                        f"network {name!r}: base and both hold cosines against class weights, which a linear classifier and "
                        "one of flattened features do not have; its only population is novel"
                    )

    def _check_adapted(self, test: EvaluatedSettings, adaptation: str) -> None:
        if adaptation not in self.stage2:
            known = ", ".join(self.stage2) or "none"
            raise ValueError(f"evaluation.tests names the adaptation {adaptation!r}; stage2 has {known}")
        if set(test.populations) != {"novel"}:
            raise ValueError(f"adaptation {adaptation!r} learns from novel classes: its only population is novel")
        if 1 in (test.shots or self.evaluation.shots):
            raise ValueError(
                f"adaptation {adaptation!r} at 1 shot: the leave-one-out loss (eq. 11) needs at least two support images "
                "a class; give the test `shots` without 1"
            )
        for name in test.networks:
            backbone = self.stage1.networks[name].backbone.name
            if backbone != "resnet12":
                raise ValueError(f"implants go beside the last block of resnet12; network {name!r} is a {backbone}")


def parse(data: Mapping[str, Any]) -> RunConfig:
    """Check a mapping (a parsed YAML file, or Snakemake's `config`) and return the settings.

    Raises:
        ConfigError: one line a problem, each with the key's path.
    """
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"]) or "config"
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                message = "unknown key; config/README.md lists the known ones"
            lines.append(f"{where}: {message}")
        raise ConfigError("config: " + "; ".join(lines)) from None


def load(path: Path) -> RunConfig:
    """Read a run's YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds settings that are refused.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file; config/runs/ holds the known runs") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a config file is a mapping of keys to values")
    return parse(data)


def schema() -> str:
    """The JSON schema of a run file, as the text of workflow/schemas/config.schema.json."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fewshot run"}
    return json.dumps({**RunConfig.model_json_schema(), **head}, indent=2, ensure_ascii=False) + "\n"
