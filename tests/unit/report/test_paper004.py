"""What differs from paper 004: its own protocol, and what is said of each change."""

from typing import Any

import pytest

from fewshot.config import ActivationMappingSettings, load
from tests.unit.report.run_files import RUNS, automatic, changed_in

WHOLE = "whole images at testing, not the central 80 of 92 px"
NORMALISED = "normalised by the training images' mean and deviation, not ImageNet's"
DRAWN = "random sized crops of log-uniform proportions, scaled bilinearly; the authors' are of uniform ones, scaled bicubically"
ORDER = "colour jitter in one order, kept within the range of colours; the authors' in any, and not kept within"
HELD_OUT = "570 images a base class trained on, the others held out; how many the authors hold out is unknown"
THEIRS = "the authors keep the best on images held out of the trained classes, how many is unknown"
VIEWS = "random views of each image, augmented as in stage 1, in place of ten crops (five places, mirrored)"
SPLIT = (
    "the classes of Ravi and Larochelle, as the authors' split; which images their file names is not recorded, and theirs are "
    "ImageNet's own in their proportions, ours squares"
)
CLEAR = "stage 1's augmentation is not random sized crops of 8 to 100 %, flips, colour jitter of 0.4 and lighting of 0.1"
AUGMENTED = {"crop": 80, "resized_crop": [0.08, 1.0], "color_jitter": 0.4, "lighting": 0.1}


@pytest.mark.parametrize(
    ("run", "name", "adaptation", "sentences"),
    [
        (
            "004_miniimagenet", "simple-80", "mapped",
            [
                "trained on base and validation classes: not like for like with networks trained on base classes alone",
                SPLIT, NORMALISED, HELD_OUT, DRAWN, ORDER,
            ],
        ),
        (
            "004_miniimagenet", "wrn-80", "mapped-views",
            [
                "trained on base and validation classes: not like for like with networks trained on base classes alone",
                SPLIT, NORMALISED, HELD_OUT, DRAWN, ORDER,
            ],
        ),
        (
            "004_miniimagenet", "wrn-64", "mapped",
            [
                SPLIT, NORMALISED, HELD_OUT,
                "trained on the base classes alone instead of base and validation classes",
                "stage 1: 180,000 iterations of 64 instead of 225,000 of 64 (80 % of the samples)",
                DRAWN, ORDER,
            ],
        ),
        (
            "004_fc100", "simple-80", "mapped-views",
            [
                "trained on base and validation classes: not like for like with networks trained on base classes alone",
                "fc100, on which the paper has no numbers", NORMALISED, VIEWS, HELD_OUT, DRAWN, ORDER,
            ],
        ),
        (
            "004_miniimagenet_cpu", "c128f-gap", "mapped",
            [
                "images of 84 px instead of 80 px", WHOLE, SPLIT, NORMALISED,
                "500 images a base class trained on, not 600",
                "backbone c128f 64-64-128-128 instead of Conv-64 or the authors' WRN-28-10",
                "cosine classifier in stage 1 instead of a linear one",
                "trained on the base classes alone instead of base and validation classes",
                "stage 1: 4,000 iterations of 64 instead of 225,000 of 64 (1.8 % of the samples)",
                "stage 1: sgd at 0.1, momentum 0.9, weight decay 0.0005, schedule steps, instead of SGD with Nesterov momentum "
                "0.9 at a constant 0.1, weight decay 0.0001",
                CLEAR, f"the best state on validation classes; {THEIRS}",
                "10,000 tasks instead of 1,000",
                "30 queries a class instead of all remaining images as queries",
            ],
        ),
    ],
)  # fmt: skip
def test_settings_of_the_run_files(run: str, name: str, adaptation: str, sentences: list[str]) -> None:
    assert automatic(run, name, adaptation) == sentences


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"objective": {"label_smoothing": 0.3}}, "label smoothing of 0.3 in stage 1, which the paper does not have"),
        ({"backbone": {"batch_norm_init": "uniform"}}, "scales of batch normalisation that start from U(0, 1)"),
        ({"augmentation": AUGMENTED | {"resized_crop": [0.25, 1.0]}}, CLEAR),
        ({"augmentation": AUGMENTED | {"lighting": 0}}, CLEAR),
        ({"augmentation": AUGMENTED | {"crop": None}}, "images of 92 px instead of 80 px"),
        ({"augmentation": AUGMENTED | {"crop": 84}}, "images of 84 of 92 px instead of 80 px"),
        (
            {"optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0.0001, "momentum": 0.5}},
            "stage 1: sgd at 0.1, momentum 0.5, weight decay 0.0001, schedule constant, instead of",
        ),
    ],
)
def test_one_change_against_paper_004(changed: dict[str, Any], sentence: str) -> None:
    said = changed_in("004_miniimagenet", "simple-80", "mapped", **changed)
    assert said[0].startswith(sentence)
    assert said[1:] == [WHOLE] * (said[0] == "images of 92 px instead of 80 px")


def test_the_state_that_is_kept_of_paper_004() -> None:
    last = changed_in("004_miniimagenet", "simple-80", "mapped", validation={"every": 0, "keep": "last"})
    assert last == ["570 images a base class trained on, not 600", f"the last state of stage 1; {THEIRS}"]


def test_images_and_views_of_paper_004() -> None:
    usual = automatic("004_miniimagenet", "simple-80", "mapped-views")
    views = ActivationMappingSettings(method="activation_to_parameter", views=10)
    more = automatic("004_miniimagenet", "simple-80", "mapped-views", adaptation=views)
    assert [text for text in more if text not in usual] == [VIEWS]
    other = automatic("004_miniimagenet", "simple-80", "mapped", image_size=100)
    assert [text for text in other if text not in usual] == ["crops of 80 of 100 px instead of 92 px"]


def test_the_mapping_of_paper_004() -> None:
    config = load(RUNS / "study_mapping_fc100_cpu.yaml")
    found = {name: automatic("study_mapping_fc100_cpu", "c128f-gap", name) for name in config.stage2 if "implants" not in name}
    extra = {name: [text for text in said if text not in found["start"]] for name, said in found.items()}
    assert "tasks drawn from the validation classes instead of the test classes" in found["start"]
    assert extra == {
        "start": [],
        "lr-00001": ["mapping: learning rate 0.0001 instead of 0.001"],
        "lr-001": ["mapping: learning rate 0.01 instead of 0.001"],
        "short": ["mapping: iterations 2500 instead of 12500"],
        "lr-00001-short": ["mapping: iterations 2500 instead of 12500", "mapping: learning rate 0.0001 instead of 0.001"],
        "mean-1": ["mapping: probability of the mean 1 instead of 0.3"],
        "mean-0": ["mapping: probability of the mean 0 instead of 0.3"],
    }
