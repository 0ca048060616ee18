"""The settings of a whole run, checked across their parts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from fewshot.config.backbones import SMALLEST_IMAGE
from fewshot.config.base import Name, Seed, Settings
from fewshot.config.datasets import CubSettings, DatasetSettings
from fewshot.config.evaluation import (
    AS_TRAINED,
    ActivationMapSettings,
    AdaptationSettings,
    ClassVectorSettings,
    EvaluatedSettings,
    EvaluationSettings,
    ImplantingSettings,
)
from fewshot.config.extension import Extension, ImprintingSettings, JointTrainingSettings
from fewshot.config.networks import Stage1Settings
from fewshot.config.problems import meant


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
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
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
        if AS_TRAINED in self.stage2:
            raise ValueError(
                f"stage2 has an adaptation named {AS_TRAINED!r}, which stands for a network that is not adapted: give it "
                "another name"
            )
        size = self.dataset.image_size
        if size is not None and size < SMALLEST_IMAGE:
            raise ValueError(f"dataset.image_size is {size}: the four 2x2 poolings of a backbone need {SMALLEST_IMAGE} px")
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
            self._check_activation_maps(self.activation_maps)
        return self

    def _check_activation_maps(self, maps: ActivationMapSettings) -> None:
        self._check_networks("activation_maps", maps.networks)
        for name in maps.networks:
            network = self.stage1.networks[name]
            if network.classifier.pooling == "flatten" or network.classifier.kind == "none":
                raise ValueError(
                    f"activation_maps: network {name!r} classifies flattened features or nothing: there is no map to draw"
                )
            self._check_choice(name)
            if self.evaluation.part == "val" and network.training.classes == "base+val":
                raise ValueError(
                    f"activation_maps: network {name!r} is trained on the validation classes: with evaluation.part val the "
                    "images of novel classes would be those it was trained on"
                )

    def _check_networks(self, where: str, names: tuple[str, ...]) -> None:
        known = self.stage1.networks
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{where} names the network {name!r};{meant(name, known)} stage1.networks has {', '.join(known)}"
                )

    def _check_validation(self) -> None:
        without_classes = isinstance(self.dataset, CubSettings) and self.dataset.split == "halves"
        for name, network in self.stage1.networks.items():
            training = network.training
            if training.holds_out and self.dataset.held_out == 0:
                raise ValueError(
                    f"network {name!r} is validated on held-out images of its classes, but none are held out: set "
                    "dataset.held_out above 0, or training.validation.measure to few_shot"
                )
            if without_classes and training.validation.every and not training.holds_out:
                raise ValueError(
                    f"dataset.split halves has no validation classes, but network {name!r} validates on some: set "
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
        if own.training.classes == "base+val" and own.training.holds_out != other.training.holds_out:
            raise ValueError(
                f"network {name!r} and its teacher {teacher!r} need the same training.validation.measure, or the teacher is "
                "trained on what its student is validated on"
            )
        own_size, size = (one.training.augmentation.crop or self.dataset.image_size for one in (own, other))
        if other.classifier.pooling == "flatten" and own_size is not None and size is not None and own_size < size:
            raise ValueError(
                f"network {name!r} learns from images of {own_size} px, but its teacher {teacher!r} classifies flattened "
                f"features of {size} px: give both the same training.augmentation.crop, or the teacher another pooling"
            )

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
                flattened = [pair for pair in test.poolings if "flatten" in pair]
                if test.adaptation is None and flattened:
                    raise ValueError(
                        f"network {name!r} has class weights of {classifier.pooling} features: with poolings {flattened[0]} "
                        "its only population is novel"
                    )
                self._check_choice(name)
        for name in test.networks:
            self._check_distance(test, name)
            if self.stage1.networks[name].training.classes == "base+val":
                self._check_on_all(test, name)

    def _check_choice(self, name: str) -> None:
        """Of a network that is looked at on held-out base images."""
        training = self.stage1.networks[name].training
        if training.distillation is not None:
            self._check_choice(training.distillation.teacher)
        if training.holds_out and (training.validation.keep == "best" or training.validation.patience is not None):
            raise ValueError(
                f"network {name!r}: its state is chosen by the held-out base images that populations but novel, and activation "
                "maps, look at: choose by training.validation.measure few_shot, or take `keep: last` without patience"
            )

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
            raise ValueError(
                f"evaluation.tests names the adaptation {adaptation!r};{meant(adaptation, self.stage2)} stage2 has {known}"
            )
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
            crop = self.stage1.networks[name].training.augmentation.crop
            augmentation = settings.finetuned.augmentation if settings.finetuned else None
            if augmentation is not None and augmentation.crop != crop:
                raise ValueError(
                    f"adaptation {adaptation!r}: finetuning.augmentation.crop is {augmentation.crop or 'null'}, but network "
                    f"{name!r} was trained with {crop or 'null'}: set it to that"
                )
            if settings.views_of_tested == "ten_crops" and crop in (None, self.dataset.image_size):
                raise ValueError(
                    f"adaptation {adaptation!r} takes ten crops of images larger than what the network sees: train network "
                    f"{name!r} with augmentation.crop below dataset.image_size"
                )
        if test.poolings != ("gap/gap",):
            raise ValueError(f"adaptation {adaptation!r} pools as its classifier does; leave `poolings` out")
