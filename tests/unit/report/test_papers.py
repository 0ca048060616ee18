"""Deviations in words, and names of methods."""

from dataclasses import replace
from typing import Any

import pytest

from fewshot.config import ImplantingSettings, NetworkSettings
from fewshot.report.papers import (
    PROTOCOLS,
    Facts,
    backbone_name,
    deviations,
    method_name,
    network_deviations,
    stage1_name,
    stage2_name,
    usual_pooling,
)


def network(
    backbone: dict[str, Any] | None = None, classifier: dict[str, Any] | None = None, **training: Any
) -> NetworkSettings:
    data = {"backbone": {"name": "resnet12", **(backbone or {})}, "classifier": classifier or {}, "training": training}
    return NetworkSettings.model_validate(data)


def fc100_network(**changes: Any) -> NetworkSettings:
    training = {"iterations": 12_500, "batch_size": 512, "optimizer": {"name": "adam"}}
    return network(classifier={"pooling": "dense", "scale": 100}, **{**training, **changes})


AS_PAPER = Facts("fc100", 32, (600, 600), (0, 0), fc100_network(), None, 10_000, 30)


def test_the_papers_own_protocol_has_no_deviations() -> None:
    assert deviations(AS_PAPER) == []
    mini = Facts(
        "miniimagenet", 84, (600, 600), (0, 0), network(), ImplantingSettings(method="implanting", shortcut=False), 5_000, 30
    )
    assert deviations(mini) == []
    wide = network({"wide": 16})
    assert network_deviations(wide, PROTOCOLS["miniimagenet"]) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tasks": 1_000}, "1,000 tasks instead of 10,000"),
        ({"queries": 15}, "15 queries a class instead of 30"),
        ({"image_size": 84}, "images of 84 px instead of 32 px"),
        ({"trained_images": (500, 500)}, "500 images a base class trained on instead of 600"),
        ({"trained_images": (480, 500)}, "480 to 500 images a base class trained on instead of 600"),
        (
            {"population": "both", "held_out_images": (100, 100)},
            "base images tested: a held-out part of the set (100 a class) instead of extra images",
        ),
        ({"part": "val"}, "tasks drawn from the validation classes instead of the test classes"),
        ({"notes": ["archive hash not checked."]}, "archive hash not checked"),
        ({"config_deviations": ("lr tuned",)}, "lr tuned"),
        (
            {"network": fc100_network(iterations=600, batch_size=64)},
            "stage 1: 600 iterations of 64 instead of 12,500 of 512 (0.6 % of the samples)",
        ),
        ({"network": fc100_network(optimizer={"name": "sgd"})}, "stage 1 optimizer sgd instead of Adam"),
    ],
)
def test_one_change_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert deviations(replace(AS_PAPER, **changes)) == [sentence]


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
        "implants with a widened shortcut, which the paper does not draw",
        "10,000 tasks instead of 5,000",
    ]


def test_other_data_sets_have_only_the_config_and_the_store_to_go_by() -> None:
    facts = replace(AS_PAPER, dataset="glyphs", tasks=3, notes=["drawn"], config_deviations=("short", "drawn"))
    assert deviations(facts) == ["drawn", "short"]


@pytest.mark.parametrize(
    ("settings", "adaptation", "names"),
    [
        (network(), None, ("GAP", "resnet12", "gap", "as-trained", "gap/gap")),
        (
            network({"wide": 16}, {"pooling": "dense"}),
            None,
            ("DC + WIDE", "resnet12-wide", "dense", "as-trained", "gap/dense"),
        ),
        (network(classifier={"pooling": "dense"}), {}, ("DC + IMP", "resnet12", "dense", "implanting", "gap/dense")),
        (
            network(classifier={"pooling": "dense"}),
            {"support_pooling": "gmp", "query_pooling": "dense"},
            ("DC + IMP", "resnet12", "dense", "implanting gmp/dense", "gap/dense"),
        ),
        (network(classifier={"kind": "linear"}), None, ("GAP (linear)", "resnet12", "gap-linear", "as-trained", "gap/gap")),
    ],
)
def test_names(settings: NetworkSettings, adaptation: dict[str, str] | None, names: tuple[str, ...]) -> None:
    stage2 = None if adaptation is None else ImplantingSettings.model_validate({"method": "implanting", **adaptation})
    found = (method_name(settings, stage2), backbone_name(settings), stage1_name(settings), stage2_name(stage2))
    assert (*found, usual_pooling(settings)) == names
