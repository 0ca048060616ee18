"""What differs from paper 001: its own protocol, and what is said of each change."""

from typing import Any

import pytest

from fewshot.config import load
from tests.unit.report.run_files import RUNS, automatic, changed_in

SQUARES = "the central square of each image is resized; the paper resizes whole images to squares"
RMSPROP = {
    "name": "rmsprop", "lr": 1e-4, "weight_decay": 0, "head_factor": 10, "smoothing": 0.9, "epsilon": 1e-5, "mean_square": 1,
}  # fmt: skip
CONSTANTS, TUNED, JOINT = (
    f"{what}: RMSProp's smoothing, epsilon and start of its mean are unpublished; ours are 0.9, 1e-05 and 1"
    for what in ("stage 1", "fine-tuning", "joint training")
)


@pytest.mark.parametrize(
    ("run", "name", "adaptation", "sentences"),
    [
        ("001_cub", "d64", "imprinting", [SQUARES, CONSTANTS, "10 draws of the exemplars instead of one"]),
        ("001_cub", "d64", "imprinting-aug", [SQUARES, CONSTANTS, "10 draws of the exemplars instead of one"]),
        ("001_cub", "d64", "imprinting-ft", [SQUARES, CONSTANTS, TUNED, "3 draws of the exemplars instead of one"]),
        ("001_cub", "d64", "joint", [SQUARES, JOINT, "3 draws of the exemplars instead of one"]),
        (
            "001_cub_50_cpu", "d64", "imprinting",
            [
                SQUARES, "c128f (32-32-64-64, from random weights) instead of GoogLeNet with ImageNet weights",
                "images of 64 px instead of 224 of 256",
                "stage 1: SGD at 0.05, new layers times 1, instead of RMSProp at 0.0001, new layers times 10",
                "stage 1: weight decay 0.0005, of which the paper says nothing",
                "stage 1: learning rate by cosine, instead of times 0.94 every 4 epochs",
                "10 draws of the exemplars instead of one",
            ],
        ),
        (
            "001_cub_50_cpu", "d64", "joint",
            [
                SQUARES, "c128f (32-32-64-64, from random weights) instead of GoogLeNet with ImageNet weights",
                "images of 64 px instead of 224 of 256",
                "joint training: SGD at 0.05, new layers times 1, instead of RMSProp at 0.0001, new layers times 10",
                "joint training: weight decay 0.0005, of which the paper says nothing",
                "joint training for 40 epochs instead of 112",
                "joint training: learning rate times 0.3 every 13 epochs instead of 0.94 every 4",
                "2 draws of the exemplars instead of one",
            ],
        ),
        (
            "001_cub", "d128", "joint",
            [
                SQUARES, "an embedding of 128 instead of the 64 of the paper's tables", JOINT,
                "3 draws of the exemplars instead of one",
            ],
        ),
    ],
)  # fmt: skip
def test_settings_of_the_run_files(run: str, name: str, adaptation: str, sentences: list[str]) -> None:
    assert automatic(run, name, adaptation) == sentences


@pytest.mark.parametrize(("run", "name"), [("001_fc100_cpu", "d64"), ("001_miniimagenet_cpu", "c128f-gap")])
def test_imprinting_is_held_against_paper_001_on_the_data_sets_of_paper_000_too(run: str, name: str) -> None:
    found = automatic(run, name, "imprinting")
    assert found[0].endswith("on which the paper has no numbers")
    assert "from random weights) instead of GoogLeNet with ImageNet weights" in found[1]
    assert found[-1] == "10 draws of the exemplars instead of one"
    assert not [text for text in found if "tasks instead of" in text or "queries" in text or "initial scale" in text]


@pytest.mark.parametrize(
    ("adaptation", "sentences"),
    [
        ({"method": "imprinting", "views": 10}, ["10 augmented views instead of 5"]),
        (
            {"method": "imprinting", "finetuning": {"epochs": 20, "decay_epochs": 2, "balanced": False}},
            [
                "fine-tuning for 20 epochs instead of 112",
                "fine-tuning: learning rate times 0.94 every 2 epochs instead of 0.94 every 4",
                "fine-tuning without oversampling of the novel classes",
            ],
        ),
        (
            {
                "method": "imprinting",
                "finetuning": {"optimizer": {"name": "sgd", "lr": 0.001, "weight_decay": 0.0005, "head_factor": 1}},
            },
            [
                "fine-tuning: SGD at 0.001, new layers times 1, instead of RMSProp at 0.0001, new layers times 10",
                "fine-tuning: weight decay 0.0005, of which the paper says nothing",
            ],
        ),
        (
            {"method": "imprinting", "finetuning": {"optimizer": {**RMSPROP, "momentum": 0.0}}},
            ["fine-tuning: momentum 0 instead of 0.9"],
        ),
        (
            {"method": "joint_training", "classifier": {"kind": "cosine"}, "finetuning": {"epochs": 40}},
            [
                "joint training for 40 epochs instead of 112",
                "joint training with normalised embeddings and weights, which the paper's has not",
            ],
        ),
        (
            {"method": "joint_training", "classifier": {"pooling": "gmp"}},
            ["joint training of maxima over locations instead of averages"],
        ),
    ],
)
def test_extensions_of_paper_001(adaptation: dict[str, Any], sentences: list[str]) -> None:
    config = load(RUNS / "001_cub.yaml")
    kind = {"imprinting": type(config.stage2["imprinting"]), "joint_training": type(config.stage2["joint"])}
    settings = kind[adaptation["method"]].model_validate(adaptation)
    found = automatic("001_cub", "d64", "imprinting", adaptation=settings, tasks=1)
    assert {CONSTANTS, JOINT} & set(found)
    assert [text for text in found if text not in (CONSTANTS, TUNED, JOINT)] == [SQUARES, *sentences]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"augmentation": {"crop": 224, "flip": False}}, "stage 1's augmentation is not random crops and flips"),
        ({"augmentation": {"crop": 224, "color_jitter": 0.9}}, "stage 1's augmentation is not random crops and flips"),
        ({"classifier": {"learn_scale": False}}, "scale fixed in stage 1 instead of learned"),
        (
            {"schedule": {"kind": "exponential", "decay": 0.94, "decay_every": 100}},
            "stage 1: learning rate lowered every 2.1 epochs instead of 4",
        ),
        ({"optimizer": RMSPROP | {"weight_decay": 0.1}}, "stage 1: weight decay 0.1, of which the paper says nothing"),
        ({"objective": {"rotation": {}}}, "rotation self-supervision in stage 1, which the paper does not have"),
        (
            {"optimizer": {**RMSPROP, "smoothing": 0.99, "mean_square": 0}},
            "stage 1: RMSProp's smoothing, epsilon and start of its mean are unpublished; ours are 0.99, 1e-05 and 0",
        ),
    ],
)
def test_one_change_against_paper_001(changed: dict[str, Any], sentence: str) -> None:
    assert changed_in("001_cub", "d64", "imprinting", **changed) == [sentence]
