"""What a run does otherwise than its paper, in words: every paper's own protocol, and what is said of each change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewshot.config import ActivationMappingSettings, ImplantingSettings, NetworkSettings, load
from fewshot.data.splits import published_split
from fewshot.plan import EvaluationJob, Plan
from fewshot.report.deviations import deviations
from fewshot.report.paper000 import PROTOCOLS, network_deviations
from fewshot.report.setting import Facts

RUNS = Path(__file__).parents[3] / "config" / "runs"
OPEN = (
    "stage 1's learning rate, schedule, weight decay, augmentation and which state is kept are unpublished; ours are 0.1, "
    "steps, 0.0005, padded crops and flips, the best state on validation classes"
)
UNPUBLISHED = "implants' learning rate, weight decay, batch normalisation and initialisation are unpublished; ours are {}"


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
        ImplantingSettings(method="implanting", shortcut=False), 5_000, 30,
    )  # fmt: skip
    assert deviations(mini) == [UNPUBLISHED.format("0.003, 0.01, with, fan_in"), AT_SCALE, OPEN]
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


AT_SCALE = "dense queries at the scale learned in stage 1; the paper may mean that of stage 2, 10"


def test_implants() -> None:
    changed = ImplantingSettings(method="implanting", epochs=10, width=8, scale=5)
    assert deviations(replace(AS_PAPER, adaptation=changed)) == [
        "implants trained for 10 epochs instead of 50",
        "implants of 8 channels instead of 16",
        "stage 2 scale 5 instead of 10",
        "implants with a widened shortcut, which the paper does not draw",
        UNPUBLISHED.format("0.003, 0.01, with, fan_in"),
        "10,000 tasks instead of 5,000",
        AT_SCALE,
        OPEN,
    ]


def test_a_scale_that_the_run_sets_is_told() -> None:
    extra = set(deviations(replace(AS_PAPER, scale=5.0))) - set(deviations(AS_PAPER))
    assert extra == {"dense queries at scale 5 instead of the one learned in stage 1"}


def test_of_pooled_queries_no_scale_is_told() -> None:
    """An arg-max over cosines is the same at every scale."""
    implants = replace(AS_PAPER, adaptation=ImplantingSettings(method="implanting"))
    assert set(deviations(implants)) - set(deviations(replace(implants, dense_queries=False))) == {AT_SCALE}
    pooled = replace(AS_PAPER, dense_queries=False)
    assert deviations(replace(pooled, scale=5.0)) == deviations(pooled)


def test_other_data_sets_have_only_the_config_and_the_store_to_go_by() -> None:
    drawn = replace(AS_PAPER, dataset="glyphs", tasks=3, notes=["drawn"], config_deviations=("short", "drawn"))
    assert deviations(drawn) == ["drawn", "short"]
    trained_on_tasks = load(RUNS / "002_table1_omniglot.yaml").stage1.networks["lsed-1shot"]
    assert deviations(replace(AS_PAPER, network=trained_on_tasks)) == []


# --- every paper by the run files of its tables ----------------------------------------------------------------------


CLASSES = {
    name: tuple(sum(1 for _, its in published_split(name) if its == part) * turns for part in ("base", "test"))
    for name, turns in (("miniimagenet", 1), ("omniglot", 4))
}
CLASSES["cub"] = (100, 100)
"""Data set -> its base and test classes; of Omniglot, in four rotations; of CUB, its halves."""


def facts(plan: Plan, job: EvaluationJob) -> Facts:
    """Of the first setting of a job, without the run file's own sentences."""
    config = plan.config
    images = {"omniglot": 20, "cub": 30}.get(config.dataset.name, 600)
    held_out = round(images * config.dataset.held_out) if config.dataset.name != "cub" else 0
    classes = CLASSES.get(config.dataset.name, (0, 0))
    return Facts(
        config.dataset.name, config.dataset.image_size or 84, (images - held_out,) * 2, (held_out,) * 2, classes,
        job.network.settings, config.stage2.get(job.adaptation), job.settings[0].tasks, config.evaluation.queries,
        part=config.evaluation.part,
    )  # fmt: skip


def automatic(run: str, name: str, of: str = "as-trained", **changed: Any) -> list[str]:
    """Deviations of a network and an adaptation in a run file, changed."""
    plan = Plan(load(RUNS / f"{run}.yaml"))
    job = next(job for job in plan.evaluations if (job.network.name, job.adaptation) == (name, of))
    return deviations(replace(facts(plan, job), **changed))


WHOLE = "whole images at testing, not the central 80 of 92 px"
NORMALISED = "normalised by the training images' mean and deviation, not ImageNet's; crops scaled bilinearly, not bicubically"
VIEWS = "random views of each image, augmented as in stage 1, in place of ten crops (five places, mirrored)"
SPLIT = (
    "the classes of Ravi and Larochelle, as the authors' split; which images their file names is not recorded, and theirs come "
    "from ImageNet's own, not from images of 84 px"
)
CLEAR = "stage 1's augmentation is not random sized crops of 8 to 100 %, flips, colour jitter of 0.4 and lighting of 0.1"
SQUARES = "the central square of each image is resized; the paper resizes whole images to squares"
OURS = "images normalised by mean and deviation of the training images; convolutions without bias, from He-normal weights"
ONES = "batch normalisation starts from ones; the PyTorch of the paper's time drew from U(0, 1)"
CAPPED = "at most 40,000 training tasks instead of 1,000,000"
ONCE = "not trained again on training and validation classes at the end, as the authors' code does"


@pytest.mark.parametrize(
    ("run", "name", "adaptation", "sentences"),
    [
        ("000_table5_fc100", "resnet12-gap", "as-trained", [OPEN.replace("0.1", "0.001")]),
        (
            "000_table4_methods", "resnet12-wide", "as-trained",
            ["500 images a base class trained on instead of 600", OPEN.replace("steps", "cosine")],
        ),
        ("001_cub", "d64", "imprinting", [SQUARES, "10 draws of the exemplars instead of one"]),
        ("001_cub", "d64", "imprinting-aug", [SQUARES, "10 draws of the exemplars instead of one"]),
        ("001_cub", "d64", "imprinting-ft", [SQUARES, "3 draws of the exemplars instead of one"]),
        ("001_cub", "d64", "joint", [SQUARES, "3 draws of the exemplars instead of one"]),
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
                SQUARES, "an embedding of 128 instead of the 64 of the paper's tables",
                "3 draws of the exemplars instead of one",
            ],
        ),
        ("002_table1_omniglot", "lsed-1shot-uniform", "as-trained", [CAPPED, ONCE, OURS]),
        ("002_table1_omniglot", "protonet-5shot", "as-trained", [ONES, CAPPED, ONCE, OURS]),
        ("002_table1_miniimagenet", "lsed-5shot", "as-trained", [ONES, CAPPED, OURS, "1,000 tasks instead of 600"]),
        (
            "002_table1_miniimagenet_cpu", "protonet-1shot-uniform", "as-trained",
            [
                "learning rate halved every 90 tasks instead of every 2,000",
                "360 training tasks, not until 20,000 in a row bring nothing better", OURS, "1,000 tasks instead of 600",
            ],
        ),
        (
            "004_miniimagenet", "simple-80", "mapped",
            [
                "trained on base and validation classes: not like for like with networks trained on base classes alone",
                NORMALISED, SPLIT,
            ],
        ),
        (
            "004_miniimagenet", "wrn-80", "mapped-views",
            [
                "trained on base and validation classes: not like for like with networks trained on base classes alone",
                NORMALISED, SPLIT,
            ],
        ),
        (
            "004_miniimagenet", "wrn-64", "mapped",
            [
                NORMALISED, SPLIT,
                "trained on the base classes alone instead of base and validation classes",
                "stage 1: 180,000 iterations of 64 instead of 225,000 of 64 (80 % of the samples)",
            ],
        ),
        (
            "004_miniimagenet_cpu", "c128f-gap", "mapped",
            [
                "images of 84 px instead of 80 px", WHOLE, NORMALISED, SPLIT,
                "500 images a base class trained on instead of 600",
                "backbone c128f 64-64-128-128 instead of Conv-64 or the authors' WRN-28-10",
                "cosine classifier in stage 1 instead of a linear one",
                "trained on the base classes alone instead of base and validation classes",
                "stage 1: 4,000 iterations of 64 instead of 225,000 of 64 (1.8 % of the samples)",
                "stage 1: sgd at 0.1, momentum 0.9, weight decay 0.0005, schedule steps, instead of SGD with Nesterov momentum "
                "0.9 at a constant 0.1, weight decay 0.0001",
                CLEAR,
                "10,000 tasks instead of 1,000",
                "30 queries a class instead of all remaining images as queries",
            ],
        ),
    ],
)  # fmt: skip
def test_a_run_files_setting_against_the_paper_of_its_method(
    run: str, name: str, adaptation: str, sentences: list[str]
) -> None:
    assert automatic(run, name, adaptation) == sentences


@pytest.mark.parametrize(("run", "name"), [("001_fc100_cpu", "d64"), ("001_miniimagenet_cpu", "c128f-gap")])
def test_imprinting_is_held_against_paper_001_on_the_data_sets_of_paper_000_too(run: str, name: str) -> None:
    found = automatic(run, name, "imprinting")
    assert found[0].endswith("on which the paper has no numbers")
    assert "from random weights) instead of GoogLeNet with ImageNet weights" in found[1]
    assert found[-1] == "10 draws of the exemplars instead of one"
    assert not [text for text in found if "tasks instead of" in text or "queries" in text or "initial scale" in text]


RMSPROP = {"name": "rmsprop", "lr": 1e-4, "weight_decay": 0, "head_factor": 10}
LEAK = {"name": "leaky_squared_euclidean", "s": 4, "r": 0.03}
TASK = {"kind": "episodic", "way": 60, "queries": 5}
AUGMENTED = {"crop": 80, "resized_crop": [0.08, 1.0], "color_jitter": 0.4, "lighting": 0.1}


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
    assert automatic("001_cub", "d64", "imprinting", adaptation=settings, tasks=1) == [SQUARES, *sentences]


def changed_in(run: str, name: str, adaptation: str, **changed: Any) -> list[str]:
    """Sentences that a change of a run file's network brings."""
    settings = load(RUNS / f"{run}.yaml").stage1.networks[name].model_dump()
    of_network = {key: settings[key] | changed.pop(key, {}) for key in ("backbone", "classifier")}
    other = NetworkSettings.model_validate({**settings, **of_network, "training": {**settings["training"], **changed}})
    usual = automatic(run, name, adaptation)
    return [text for text in automatic(run, name, adaptation, network=other) if text not in usual]


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
    ],
)
def test_one_change_against_paper_001(changed: dict[str, Any], sentence: str) -> None:
    assert changed_in("001_cub", "d64", "imprinting", **changed) == [sentence]


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


def test_images_and_views_of_paper_004() -> None:
    usual = automatic("004_miniimagenet", "simple-80", "mapped-views")
    views = ActivationMappingSettings(method="activation_to_parameter", views=10)
    more = automatic("004_miniimagenet", "simple-80", "mapped-views", adaptation=views)
    assert [text for text in more if text not in usual] == [VIEWS]
    other = automatic("004_miniimagenet", "simple-80", "mapped", image_size=100)
    assert [text for text in other if text not in usual] == ["crops of 80 of 100 px instead of 92 px"]


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


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (
            {"schedule": {"kind": "cosine"}, "augmentation": {"resized_crop": [0.25, 1], "color_jitter": 0.4}},
            "0.1, cosine, 0.0005, random resized crops and flips and colour jitter, the best state on validation classes",
        ),
        (
            {"augmentation": {"crop_padding": 0, "flip": False}, "validation": {"keep": "last"}},
            "0.1, steps, 0.0005, none, the last state",
        ),
        (
            {"augmentation": {"crop": 32}},
            "0.1, steps, 0.0005, random crops of 32 px and flips, the best state on validation classes",
        ),
    ],
)
def test_what_stage_1_takes_where_paper_000_says_nothing(training: dict[str, Any], words: str) -> None:
    size = 36 if "crop" in training["augmentation"] else 32
    (said,) = deviations(replace(AS_PAPER, image_size=size, network=fc100_network(**training)))
    assert said.endswith(f"unpublished; ours are {words}")


def test_sentences_of_the_run_files_do_not_repeat_what_is_found() -> None:
    """What the settings say by themselves has one home; see `facts`."""
    for path in sorted(RUNS.glob("*.yaml")):
        plan = Plan(load(path))
        found = {text for job in plan.evaluations for text in deviations(facts(plan, job))}
        assert not set(plan.config.deviations) & found, path.name
