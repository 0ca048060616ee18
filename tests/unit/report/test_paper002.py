"""What differs from paper 002: its own protocol, and what is said of each change."""

from typing import Any

import pytest

from fewshot.config import NetworkSettings, load
from fewshot.report.deviations import deviations
from fewshot.report.setting import Facts
from tests.unit.report.run_files import RUNS, automatic

CHANNELS = "drawings in three equal channels instead of one"
OURS = "images normalised by mean and deviation of the training images; convolutions without bias, from He-normal weights"
ONES = "batch normalisation starts from ones; the PyTorch of the paper's time drew from U(0, 1)"
CAPPED = "at most 40,000 training tasks instead of 1,000,000"
ONCE = "not trained again on training and validation classes at the end, as the authors' code does"
LEAK = {"name": "leaky_squared_euclidean", "s": 4, "r": 0.03}
TASK = {"kind": "episodic", "way": 60, "queries": 5}


@pytest.mark.parametrize(
    ("run", "name", "adaptation", "sentences"),
    [
        ("002_table1_omniglot", "lsed-1shot-uniform", "as-trained", [CAPPED, ONCE, OURS, CHANNELS]),
        ("002_table1_omniglot", "protonet-5shot", "as-trained", [ONES, CAPPED, ONCE, OURS, CHANNELS]),
        ("002_table1_miniimagenet", "lsed-5shot", "as-trained", [ONES, CAPPED, OURS, "1,000 tasks instead of 600"]),
        (
            "002_table1_miniimagenet_cpu", "protonet-1shot-uniform", "as-trained",
            [
                "learning rate halved every 90 tasks instead of every 2,000",
                "360 training tasks, not until 20,000 in a row bring nothing better", OURS, "1,000 tasks instead of 600",
            ],
        ),
    ],
)  # fmt: skip
def test_settings_of_the_run_files(run: str, name: str, adaptation: str, sentences: list[str]) -> None:
    assert automatic(run, name, adaptation) == sentences


def test_patience_of_paper_002_is_its_own_and_another_is_named_with_what_it_took() -> None:
    def said(patience: int, done: int | None) -> list[str]:
        data = load(RUNS / "002_table1_miniimagenet.yaml").stage1.networks["lsed-1shot"].as_dict()
        data["training"] |= {"iterations": 60_000}
        data["training"]["validation"] |= {"every": 1_000, "patience": patience}
        settings = NetworkSettings.model_validate(data)
        found = deviations(Facts("miniimagenet", 84, (600, 600), (0, 0), (64, 20), settings, None, 600, 15, done=done))
        return [text for text in found if "training" in text and "images" not in text and "Adam" not in text]

    assert said(20, 60_000) == said(20, None) == ["at most 60,000 training tasks instead of 1,000,000"]
    assert said(20, 45_000) == []
    assert said(2, 9_000) == ["training ends after 2,000 tasks without a better state instead of 20,000 (it took 9,000)"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"backbone": {"name": "conv64", "batch_norm_init": "uniform"}}, "with the last max-pooling"),
        ({"backbone": {"name": "c128f"}}, "backbone c128f 64-64-128-128 instead of four convolutions of 64 channels"),
        ({"objective": {"kind": "episodic", "way": 20, "queries": 5}}, "training tasks of 20 classes instead of 60"),
        ({"objective": {"kind": "episodic", "way": 60}}, "training tasks of 15 queries a class instead of 5"),
        ({"objective": {**TASK, "distance": LEAK}}, "leak with s = 4, r = 0.03 instead of s = 0, r = 0.01"),
        ({"objective": {**TASK, "distance": {"name": "cosine"}}}, "cosine distance, which the paper does not have"),
        ({"classifier": {"kind": "none", "pooling": "gap"}}, "gap of the last feature map instead of all its values"),
        ({"optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 0}}, "sgd at 0.1 instead of Adam at 0.001"),
        ({"schedule": {"kind": "cosine"}}, "learning rate: cosine instead of halved every 2,000 tasks"),
        ({"augmentation": {"crop_padding": 0}}, "training images are augmented, which the paper's are not"),
        (
            {"validation": {"every": 100, "patience": 10}},
            "training ends after 1,000 tasks without a better state instead of 20,000",
        ),
    ],
)
def test_one_change_against_paper_002(changed: dict[str, Any], sentence: str) -> None:
    config = load(RUNS / "002_table1_omniglot.yaml")
    settings = config.stage1.networks["protonet-1shot-uniform"].model_dump()
    of_network = {key: changed.pop(key, settings[key]) for key in ("backbone", "classifier")}
    data = {**settings, **of_network, "training": {**settings["training"], **changed}}
    other = NetworkSettings.model_validate(data)
    usual = automatic("002_table1_omniglot", "protonet-1shot-uniform")
    assert [
        text for text in automatic("002_table1_omniglot", "protonet-1shot-uniform", network=other) if text not in usual
    ] == [sentence]


@pytest.mark.parametrize(
    ("run", "name", "changed", "sentence"),
    [
        (
            "002_table1_miniimagenet", "protonet-1shot-uniform", {"trained_images": (500, 500), "held_out_images": (100, 100)},
            "500 images a base class trained on instead of 600",
        ),
        (
            "002_table1_omniglot", "protonet-1shot-uniform", {"trained_images": (17, 17), "held_out_images": (3, 3)},
            "17 images a base class trained on instead of 20",
        ),
        (
            "002_table1_omniglot", "protonet-1shot-uniform", {"classes": (1_028, 423)},  # rotations: false
            "1,028 base and 423 test classes instead of 4,112 and 1,692",
        ),
    ],
)  # fmt: skip
def test_other_images_or_classes_than_paper_002s(run: str, name: str, changed: dict[str, Any], sentence: str) -> None:
    usual = automatic(run, name)
    assert [text for text in automatic(run, name, **changed) if text not in usual] == [sentence]
