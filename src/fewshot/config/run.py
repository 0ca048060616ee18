"""The settings of a whole run: read, checked across their parts, and described as a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from fewshot.config.base import Name, Settings, merge
from fewshot.config.datasets import CubSettings, DatasetSettings
from fewshot.config.evaluation import (
    ActivationMapSettings,
    AdaptationSettings,
    ClassVectorSettings,
    EvaluatedSettings,
    EvaluationSettings,
    ImplantingSettings,
)
from fewshot.config.extension import Extension, ImprintingSettings, JointTrainingSettings
from fewshot.config.networks import Stage1Settings
from fewshot.errors import ConfigError


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
    stage2: dict[Name, AdaptationSettings] = Field({})
    evaluation: EvaluationSettings
    activation_maps: ActivationMapSettings | None = None
    class_vectors: ClassVectorSettings | None = None

    @model_validator(mode="after")
    def _references(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must differ")
        size = self.dataset.image_size
        if size is not None and size < 16:
            raise ValueError(f"dataset.image_size is {size}: the four 2x2 poolings of a backbone need 16 px")
        for name, network in self.stage1.networks.items():
            crop = network.training.augmentation.crop
            if crop is not None and (size is None or crop > size):
                raise ValueError(f"network {name!r} crops {crop} px: set dataset.image_size to {crop} or more")
        self._check_validation()
        self._check_teachers()
        for test in self.evaluation.tests:
            self._check_test(test)
            if test.adaptation is not None:
                self._check_adapted(test, test.adaptation)
        if self.class_vectors is not None:
            name = self.class_vectors.network
            self._check_networks("class_vectors", (name,))
            classifier = self.stage1.networks[name].classifier
            if classifier.kind == "none" or classifier.pooling not in ("gap", "gmp"):
                raise ValueError(f"class_vectors: network {name!r} has no class weights of one activation (pooling gap or gmp)")
        if self.activation_maps is not None:
            self._check_networks("activation_maps", self.activation_maps.networks)
            for name in self.activation_maps.networks:
                classifier = self.stage1.networks[name].classifier
                if classifier.pooling == "flatten" or classifier.kind == "none":
                    raise ValueError(
                        f"activation_maps: network {name!r} classifies flattened features or nothing: there is no map to draw"
                    )
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

    def _check_teachers(self) -> None:
        above: list[str] = []
        for name, network in self.stage1.networks.items():
            distillation = network.training.distillation
            if distillation is not None and distillation.teacher not in above:
                raise ValueError(
                    f"network {name!r} learns from the teacher {distillation.teacher!r}, which must stand above it in "
                    f"stage1.networks; above it are {', '.join(above) or 'none'}"
                )
            if distillation is not None:
                self._check_teacher(name, distillation.teacher)
            above.append(name)

    def _check_teacher(self, name: str, teacher: str) -> None:
        own, other = self.stage1.networks[name], self.stage1.networks[teacher]
        if other.classifier.kind == "none":
            raise ValueError(f"network {name!r}: its teacher {teacher!r} was trained on tasks and has no class probabilities")
        if own.training.classes != other.training.classes:
            raise ValueError(f"network {name!r} and its teacher {teacher!r} need the same training.classes")

    def _check_test(self, test: EvaluatedSettings) -> None:
        self._check_networks("evaluation.tests", test.networks)
        episodic = {"novel", "base", "both"}
        if (test.adaptation is None or self._gives(test.adaptation) == "features") and set(test.populations) - episodic:
            others = ", ".join(sorted(set(test.populations) - episodic))
            raise ValueError(f"populations {others} are of adaptations that extend the classifier, such as imprinting")
        missing = sorted(set(test.shots or ()) - set(self.evaluation.shots))
        if missing:
            raise ValueError(f"evaluation.tests asks for shots {missing}; add them to evaluation.shots")
        if self.evaluation.way == "all" and (test.adaptation is None or self._gives(test.adaptation) != "classifier"):
            raise ValueError(
                "with evaluation.way: all every test names an adaptation that extends the classifier (imprinting, ...)"
            )
        if set(test.populations) - {"novel"}:
            if self.dataset.held_out == 0:
                raise ValueError("every population but novel needs held-out base images: set dataset.held_out above 0")
            for name in test.networks:
                classifier = self.stage1.networks[name].classifier
                if test.adaptation is None and (classifier.pooling == "flatten" or classifier.kind != "cosine"):
                    raise ValueError(
                        f"network {name!r}: base and both hold cosines against class weights, which a linear classifier, "
                        "one of flattened features and a network trained on tasks do not have; its only population is novel"
                    )
        for name in test.networks:
            self._check_distance(test, name)
            if self.stage1.networks[name].training.classes == "base+val":
                self._check_on_all(test, name)

    def _check_on_all(self, test: EvaluatedSettings, name: str) -> None:
        """Of a network trained on base and validation classes."""
        if self.evaluation.part == "val":
            raise ValueError(
                f"network {name!r} is trained on the validation classes: evaluation.part val would test what it saw"
            )
        learnt = None if test.adaptation is None else self.stage2.get(test.adaptation)
        if set(test.populations) != {"novel"} or isinstance(learnt, ImprintingSettings | JointTrainingSettings):
            raise ValueError(
                f"network {name!r} is trained on base and validation classes: its only population is novel, as trained or with "
                "implanting or activation_to_parameter; classes: base has the others"
            )

    def _check_distance(self, test: EvaluatedSettings, name: str) -> None:
        network = self.stage1.networks[name]
        if network.distance is None:
            return
        pair = f"{network.classifier.pooling}/{network.classifier.pooling}"
        if set(test.poolings) != {pair}:
            raise ValueError(f"network {name!r} is tested with the distance it was trained with: its only poolings are {pair}")
        if test.adaptation is not None:
            raise ValueError(f"network {name!r} was trained on tasks: {test.adaptation!r} adapts networks trained to classify")

    def _check_adapted(self, test: EvaluatedSettings, adaptation: str) -> None:
        if adaptation not in self.stage2:
            known = ", ".join(self.stage2) or "none"
            raise ValueError(f"evaluation.tests names the adaptation {adaptation!r}; stage2 has {known}")
        settings = self.stage2[adaptation]
        if not isinstance(settings, ImplantingSettings):
            self._check_extended(test, adaptation, settings)
            return
        if set(test.populations) != {"novel"}:
            raise ValueError(f"adaptation {adaptation!r} learns from novel classes: its only population is novel")
        if 1 in (test.shots or self.evaluation.shots):
            raise ValueError(
                f"adaptation {adaptation!r} at 1 shot: the leave-one-out loss (eq. 11) needs at least two support images "
                "a class; give the test `shots` without 1"
            )
        for name in test.networks:
            network = self.stage1.networks[name]
            if network.backbone.name != "resnet12" or network.embedding is not None:
                extra = "" if network.embedding is None else " with an embedding layer"
                raise ValueError(
                    f"implants go beside the last block of resnet12; network {name!r} is a {network.backbone.name}{extra}"
                )

    def _gives(self, adaptation: str) -> str:
        settings = self.stage2.get(adaptation)
        return "" if settings is None else settings.gives

    def _check_extended(self, test: EvaluatedSettings, adaptation: str, settings: Extension) -> None:
        if not settings.with_base and set(test.populations) != {"novel"}:
            raise ValueError(f"adaptation {adaptation!r} has no base classes: its only population is novel")
        for name in test.networks:
            settings.check_network(name, self.stage1.networks[name])
        if test.poolings != ("gap/gap",):
            raise ValueError(f"adaptation {adaptation!r} pools as its network's classifier does; leave `poolings` out")


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


MOST_CHARACTERS, MOST_VALUES = 1_000_000, 50_000
"""Of a run file: far beyond any real one."""


def load(path: Path) -> RunConfig:
    """Read a run's YAML file, and the files that it extends.

    Raises:
        ConfigError: a file is missing, is not YAML, extends itself, or holds settings that are refused.
    """
    return parse(read(path))


def read(*paths: Path, over: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The mapping that some run files make, later over earlier, and `over` over all; each with what it extends under it.

    A file's key `extends` names one file, or a list of files, beside it. They are laid under its own keys with `merge`, later
    over earlier; the key `run` is not handed on, so that two runs never share a folder of results by oversight.

    Raises:
        ConfigError: a file is missing, is not YAML, or extends itself.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = merge(merged, _extended(path, ()))
    return merge(merged, over or {})


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A file's mapping over those of the files that it extends; `above`: the files that led here."""
    own = _mapping(path, above)
    names = own.pop("extends", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: extends names a file beside it, or a list of them, not {names!r}")
    chain = (*above, path.resolve())
    under: dict[str, Any] = {}
    for name in names:
        base = path.parent / name
        if base.resolve() in chain:
            raise ConfigError(f"{path}: extends {name}, which leads back to itself; take the key out of one of them")
        under = merge(under, _extended(base, chain))
    under.pop("run", None)
    return merge(under, own)


def _mapping(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"{path}: longer than {MOST_CHARACTERS:,} characters, which no run file is")
        data = yaml.safe_load(text)
        _count(data, path)
    except (FileNotFoundError, IsADirectoryError):
        if above:
            raise ConfigError(f"{above[-1]}: extends {path}, which is no file; name one beside it") from None
        raise ConfigError(f"{path}: no such config file; config/runs/ holds the known runs") from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:  # a date, a number
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a config file is a mapping of keys to values")
    return data


def _count(data: object, path: Path) -> None:
    """Refuse what aliases of aliases blow up, before anything walks through it."""
    left, waiting = MOST_VALUES, [data]
    while waiting:
        value = waiting.pop()
        left -= 1
        if left < 0:
            raise ConfigError(f"{path}: more than {MOST_VALUES:,} values, which no run file has; are there aliases of aliases?")
        if isinstance(value, dict):
            waiting.extend((*value, *value.values()))
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)


def schema() -> str:
    """The JSON schema of a run file, as the text of workflow/schemas/config.schema.json."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fewshot run"}
    return json.dumps({**RunConfig.model_json_schema(), **head}, indent=2, ensure_ascii=False) + "\n"
