"""What differs from paper 000: its own protocol, and what is said of each change."""

from dataclasses import replace
from typing import Any

import pytest

from fewshot.config import ImplantingSettings, NetworkSettings
from fewshot.report.deviations import deviations
from fewshot.report.paper000 import PROTOCOLS, network_deviations
from fewshot.report.setting import Facts
from tests.unit.report.run_files import automatic

OPEN = (
    "stage 1's learning rate, schedule, weight decay, augmentation and which state is kept are unpublished; ours are 0.1, "
    "steps, 0.0005 (of tau too), padded crops and flips, the best state on validation classes"
)
UNPUBLISHED = (
    "implants' learning rate, weight decay, batch normalisation, initialisation and shortcut are unpublished; ours are {}; "
    "an epoch is one step"
)
AT_SCALE = "dense queries at the scale learned in stage 1; the paper may mean that of stage 2, 10"


def network(
    backbone: dict[str, Any] | None = None, classifier: dict[str, Any] | None = None, **training: Any
) -> NetworkSettings:
    data = {"backbone": {"name": "resnet12", **(backbone or {})}, "classifier": classifier or {}, "training": training}
    return NetworkSettings.model_validate(data)


def fc100_network(**changes: Any) -> NetworkSettings:
    training = {"iterations": 12_500, "batch_size": 512, "optimizer": {"name": "adam"}}
    return network(classifier={"pooling": "dense", "scale": 100}, **{**training, **changes})


AS_PAPER = Facts("fc100", 32, (600, 600), (0, 0), (60, 20), fc100_network(), None, 10_000, 30)


def test_of_the_papers_own_protocol_only_what_is_unpublished_is_said() -> None:
    assert deviations(AS_PAPER) == [OPEN]
    mini = Facts(
        "miniimagenet", 84, (600, 600), (0, 0), (64, 20), network(),
        ImplantingSettings(method="implanting"), 5_000, 30,
    )  # fmt: skip
    assert deviations(mini) == [
        UNPUBLISHED.format("0.001, 0.01, batch normalisation from the block's own, fan_in, a widened shortcut"),
        AT_SCALE,
        OPEN,
    ]
    wide = network({"wide": 16})
    assert network_deviations(wide, PROTOCOLS["miniimagenet"]) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tasks": 1_000}, "1,000 tasks instead of 10,000"),
        ({"queries": 15}, "15 queries a class instead of 30"),
        ({"image_size": 84}, "images of 84 px instead of 32 px"),
        ({"network": fc100_network(augmentation={"crop": 28})}, "images of 28 of 32 px instead of 32 px"),
        ({"trained_images": (500, 500)}, "500 images a base class trained on instead of 600"),
        ({"trained_images": (480, 500)}, "480 to 500 images a base class trained on instead of 600"),
        (
            {"population": "both", "held_out_images": (100, 100)},
            "base images tested: a held-out part of the set (100 a class) instead of extra images",
        ),
        ({"part": "val"}, "tasks drawn from the validation classes instead of the test classes"),
        ({"precision": "bfloat16"}, "stage 1 in bfloat16; the paper names no precision"),
        ({"notes": ["archive hash not checked."]}, "archive hash not checked"),
        ({"config_deviations": ("lr tuned",)}, "lr tuned"),
        (
            {"network": fc100_network(iterations=600, batch_size=64)},
            "stage 1: 600 iterations of 64 instead of 12,500 of 512 (0.6 % of the samples)",
        ),
        ({"network": fc100_network(optimizer={"name": "sgd"})}, "stage 1 optimizer sgd instead of Adam"),
        (
            {"network": fc100_network(objective={"label_smoothing": 0.1})},
            "label smoothing of 0.1 in stage 1, which the paper does not have",
        ),
        (
            {"network": fc100_network(objective={"rotation": {}})},
            "rotation self-supervision in stage 1, which the paper does not have",
        ),
        (
            {"network": fc100_network(objective={"distillation": {"teacher": "other"}})},
            "distillation from other in stage 1, which the paper does not have",
        ),
        (
            {"network": fc100_network().model_copy(update={"embedding": 64})},
            "an embedding layer of 64, which the paper does not have",
        ),
    ],
)
def test_one_change_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert [text for text in deviations(replace(AS_PAPER, **changes)) if "unpublished" not in text] == [sentence]


def test_a_training_that_patience_ended_is_named_with_what_it_really_took() -> None:
    """The whole of the setting says nothing; half of it says so twice: why, and how much of the paper's samples."""
    assert deviations(replace(AS_PAPER, done=12_500)) == [OPEN]
    assert deviations(replace(AS_PAPER, done=6_250))[:-1] == [
        "stage 1: 6,250 iterations of 512 instead of 12,500 of 512 (50 % of the samples)",
        "stage 1 ended by patience after 6,250 of 12,500 iterations",
    ]
    longer = replace(AS_PAPER, network=fc100_network(iterations=25_000), done=12_500)
    assert deviations(longer)[:-1] == ["stage 1 ended by patience after 12,500 of 25,000 iterations"]


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        (network({"widths": [16, 32, 64, 128]}), ["widths 16-32-64-128 instead of 64-128-256-512"]),
        (network({"wide": 8}), ["last block widened by 8 channels instead of 16"]),
        (network({"name": "conv64"}), ["backbone conv64, which the paper does not use"]),
        (network(classifier={"kind": "linear"}), ["linear classifier instead of a scaled cosine classifier"]),
        (
            network(classifier={"scale": 20, "learn_scale": False}),
            ["initial scale 20 instead of 10", "scale fixed in stage 1 instead of learned"],
        ),
        (
            network(optimizer={"nesterov": False}),
            ["stage 1 optimizer sgd without Nesterov momentum instead of SGD with Nesterov momentum"],
        ),
        (
            network(classifier={"kind": "none"}, objective={"kind": "lifted_structured"}, batch_size=200),
            [
                "no classifier instead of a scaled cosine classifier",
                "stage 1: 8,000 iterations of 64 instead of 8,000 of 200 (32 % of the samples)",
                "stage 1 minimises the lifted structured loss instead of cross-entropy",
            ],
        ),
        (network(iterations=16_000), ["stage 1: 16,000 iterations of 200 instead of 8,000 of 200 (200 % of the samples)"]),
    ],
)
def test_network_deviations(settings: NetworkSettings, sentences: list[str]) -> None:
    assert network_deviations(settings, PROTOCOLS["miniimagenet"]) == sentences


def test_implants() -> None:
    changed = ImplantingSettings(method="implanting", epochs=10, width=8, scale=5)
    assert deviations(replace(AS_PAPER, adaptation=changed)) == [
        "implants trained for 10 epochs instead of 50",
        "implants of 8 channels instead of 16",
        "stage 2 scale 5 instead of 10",
        UNPUBLISHED.format("0.001, 0.01, batch normalisation from the block's own, fan_in, a widened shortcut"),
        "10,000 tasks instead of 5,000",
        AT_SCALE,
        OPEN,
    ]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"batch_norm_init": "ones", "lr": 0.003}, "0.003, 0.01, batch normalisation from ones, fan_in, a widened shortcut"),
        ({"batch_norm": False}, "0.001, 0.01, no batch normalisation, fan_in, a widened shortcut"),
        ({"shortcut": False}, "0.001, 0.01, batch normalisation from the block's own, fan_in, no shortcut"),
    ],
)
def test_what_implants_begin_from_is_told(chosen: dict[str, object], words: str) -> None:
    adaptation = ImplantingSettings.model_validate({"method": "implanting", **chosen})
    assert UNPUBLISHED.format(words) in deviations(replace(AS_PAPER, adaptation=adaptation))


def test_a_scale_that_the_run_sets_is_told() -> None:
    extra = set(deviations(replace(AS_PAPER, scale=5.0))) - set(deviations(AS_PAPER))
    assert extra == {"dense queries at scale 5 instead of the one learned in stage 1"}


def test_of_pooled_queries_no_scale_is_told() -> None:
    """An arg-max over cosines is the same at every scale."""
    implants = replace(AS_PAPER, adaptation=ImplantingSettings(method="implanting"))
    assert set(deviations(implants)) - set(deviations(replace(implants, dense_queries=False))) == {AT_SCALE}
    pooled = replace(AS_PAPER, dense_queries=False)
    assert deviations(replace(pooled, scale=5.0)) == deviations(pooled)


@pytest.mark.parametrize(
    ("run", "name", "adaptation", "sentences"),
    [
        ("000_table5_fc100", "resnet12-gap", "as-trained", [OPEN.replace("0.1", "0.001")]),
        (
            "000_table4_methods", "resnet12-wide", "as-trained",
            ["500 images a base class trained on instead of 600", OPEN.replace("steps", "cosine")],
        ),
    ],
)  # fmt: skip
def test_settings_of_the_run_files(run: str, name: str, adaptation: str, sentences: list[str]) -> None:
    assert automatic(run, name, adaptation) == sentences


@pytest.mark.parametrize("classifier", [{"learn_scale": False}, {"kind": "linear"}])
def test_weight_decay_is_not_of_a_tau_that_is_not_learned(classifier: dict[str, Any]) -> None:
    assert "of tau too" in " ".join(deviations(AS_PAPER))
    assert "of tau too" not in " ".join(deviations(replace(AS_PAPER, network=network(classifier=classifier))))


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (
            {"schedule": {"kind": "cosine"}, "augmentation": {"resized_crop": [0.25, 1], "color_jitter": 0.4}},
            "0.1, cosine, 0.0005 (of tau too), random resized crops and flips and colour jitter, the best state on validation "
            "classes",
        ),
        (
            {"augmentation": {"crop_padding": 0, "flip": False}, "validation": {"keep": "last"}},
            "0.1, steps, 0.0005 (of tau too), none, the last state",
        ),
        (
            {"optimizer": {"name": "adam", "lr": 0.1, "weight_decay": 0}},
            "0.1, steps, 0, padded crops and flips, the best state on validation classes",
        ),
        (
            {"augmentation": {"crop": 32}},
            "0.1, steps, 0.0005 (of tau too), random crops of 32 px and flips, the best state on validation classes",
        ),
    ],
)
def test_what_stage_1_takes_where_paper_000_says_nothing(training: dict[str, Any], words: str) -> None:
    size = 36 if "crop" in training.get("augmentation", {}) else 32
    (said,) = deviations(replace(AS_PAPER, image_size=size, network=fc100_network(**training)))
    assert said.endswith(f"unpublished; ours are {words}")
