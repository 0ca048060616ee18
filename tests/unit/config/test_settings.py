from pathlib import Path
from typing import Any

import pytest

from fewshot.config import FinetuningSettings, parse
from fewshot.errors import ConfigError
from tests.unit.config.settings import GOOD, changed

ROOT = Path(__file__).parents[3]


TASKS = {
    "backbone": {"name": "conv64"}, "classifier": {"kind": "none", "pooling": "flatten"},
    "training": {"objective": {"kind": "episodic"}},
}  # fmt: skip
"""A network trained on tasks."""


def with_distance(**leak: float) -> dict[str, Any]:
    """A network trained on tasks with a leaky distance."""
    distance = {"name": "leaky_squared_euclidean", **leak}
    return {**TASKS, "training": {"objective": {"kind": "episodic", "distance": distance}}}


def test_a_networks_training_is_laid_over_the_shared_one_at_every_depth():
    networks = parse(GOOD).stage1.networks
    assert networks["gap"].training.optimizer.lr == 0.2
    assert networks["dense"].training.optimizer.lr == 0.3
    assert networks["dense"].training.optimizer.momentum == 0.5
    assert networks["dense"].training.iterations == 10


BAD = [
    ("datset", 1, r"^config: datset: unknown key; dataset is meant\? config/README\.md lists the known ones$"),
    ("seed", [0], r"^config: seed: does not belong here; seeds is meant\? config/README\.md says where it does$"),
    ("evaluation.queries", True, r"^config: evaluation: queries is true or false \(YAML reads yes, no, on and off as these\)"),
    ("seeds", [True], r"^config: seeds is true or false"),
    (
        "stage1.networks.gap.backbone",
        {"widths": [4]},
        r"backbone: its 'name' is missing; config/README\.md lists what there is$",
    ),
    ("evaluation.shot", [1], r"^config: evaluation\.shot: does not belong here; shots is meant\? "),
    ("evaluation.tests.0.populatons", ["novel"], r"tests\.0\.populatons: unknown key; populations is meant\? "),
    ("stage1.networks.dense.backbone.width", [4], r"backbone\.width: does not belong here; widths is meant\? "),
    ("dataset.shares", [1], r"^config: dataset\.shares: does not belong here; config/README\.md says where it does$"),
    ("dataset.quiz", 1, r"^config: dataset\.quiz: unknown key; config/README\.md lists the known ones$"),
    (
        "evaluation.poolings",
        ["gap/gap"],
        r"^config: evaluation\.poolings: does not belong here; config/README\.md says where it does$",
    ),
    ("stage1.networks.gap.training", {"iteratons": 3}, r"stage1\.networks\.gap\.training\.iteratons: unknown key"),
    ("dataset", {"name": "folder", "folder": "x", "sharez": 1}, r"^config: dataset\.sharez: unknown key"),
    ("title", 2**100, r"^config: title: should be a valid string, not a number of 101 bits$"),
    ("run", 2**100, r"^config: run: should be a valid string, not a number of 101 bits$"),
    ("stage1.training.learning_rate", 1, r"^config: stage1\.training\.learning_rate: unknown key; [^;]*$"),
    ("stage1.training.iterations", "many", r"^config: stage1\.training\.iterations: should be a valid integer, not 'many'$"),
    ("stage1.training.iterations", "1e3", r"iterations: should be a valid integer, not '1e3': write 1000$"),
    ("evaluation.shots", ["1e0"], r"shots\.0: should be a valid integer, not '1e0': write 1$"),
    ("stage1.training.iterations", "12e-1", r"should be a valid integer, not '12e-1'$"),
    ("stage1.training.iterations", "1e400", r"should be a valid integer, not '1e400'$"),
    (
        "stage1.networks.gap.backbone.name",
        "resnet21",
        r"gap\.backbone: there is no 'resnet21'; resnet18 is meant\? known are 'resnet12', .*'resnet50'$",
    ),
    ("dataset.name", "imagenet", r"dataset: there is no 'imagenet'; miniimagenet is meant\? known are 'glyphs', "),
    ("stage2.implants.method", "implantng", r"stage2\.implants: there is no 'implantng'; implanting is meant\? known are 'imp"),
    ("run", "A run", r"^config: run: 'A run' is to be of small letters, digits, - and _$"),
    ("device", "gpu", r"device: should be 'auto', 'cpu' or 'cuda', not 'gpu'$"),
    ("seeds", 3, r"seeds: should be a list, not 3$"),
    ("dataset", {}, r"dataset: "),
    ("seeds", [0, 0], "^config: seeds must differ"),
    ("seeds", [], r"^config: seeds: has 0 entries, wants 1 at least; config/README\.md says what it is$"),
    ("evaluation.tests", [], r"^config: evaluation\.tests: has 0 entries, wants 1 at least; "),
    ("stage1.networks", {}, r"stage1\.networks: has 0 entries, wants 1 at least; "),
    ("activation_maps", {"networks": ["gap"] * 3}, r"^config: activation_maps\.networks: has 3 entries, wants 2 at most; "),
    ("seeds", [0, -1], r"^config: seeds\.1: should be greater than or equal to 0"),
    ("dataset.seed", -1, r"^config: dataset\.seed: should be greater than or equal to 0"),
    ("evaluation.seed", -1, r"^config: evaluation\.seed: should be greater than or equal to 0"),
    ("evaluation.seed", 2**31, r"^config: evaluation\.seed: should be less than 2147483648"),
    ("class_vectors", {"network": "gap", "seed": -1}, r"^config: class_vectors\.seed: should be greater"),
    ("stage2", {"as-trained": {"method": "implanting"}}, "'as-trained', which stands for a network that is not adapted"),
    ("dataset.held_out", 1.5, r"held_out: "),
    ("dataset.hashes", {"a.tar": "sha256:12"}, r"must be 'sha256:<64 hex digits>'"),
    ("stage1.training.optimizer.lr", float("nan"), r"lr: "),
    ("stage1.training.validation", {"every": 0}, "keep: best needs validation"),
    ("stage1.training.schedule", {"milestones": [0.5]}, "one factor for each"),
    ("evaluation.tests.0.networks", ["gpa"], r"names the network 'gpa'; stage1\.networks has gap, dense"),
    ("evaluation.tests.0.networks", ["dnse"], r"names the network 'dnse'; dense is meant\? stage1\.networks has gap, dense"),
    (
        "evaluation.tests.0",
        {"networks": ["dense"], "adaptation": "implant"},
        r"names the adaptation 'implant'; implants is meant\? stage2 has implants",
    ),
    (
        "evaluation.tests.0.poolings",
        ["dense/gap"],
        r"^config: evaluation\.tests\.0\.poolings\.0: 'dense/gap' is to be support/query: gap or gmp, [^:]*$",
    ),
    ("evaluation.tests.0.shots", [3], r"asks for shots \[3\]; add them to evaluation\.shots"),
    ("evaluation.tests.0", {"networks": ["dense"], "adaptation": "x", "shots": [5]}, "stage2 has implants"),
    ("evaluation.tests.0", {"networks": ["dense"], "adaptation": "implants"}, "at least two support images"),
    ("evaluation.tests.0", {"networks": ["gap"], "adaptation": "implants", "shots": [5]}, "is a c128f"),
    ("stage1.networks.gap.classifier", {"kind": "linear"}, "linear classifier"),
    ("stage1.training.augmentation", {"resized_crop": [0.9, 0.2]}, "the smaller share first"),
    ("stage1.training.augmentation", {"resized_crop": [2.0, 3.0]}, "resized_crop"),
    ("stage1.training.augmentation", {"crop": 16, "crop_padding": 4}, "crop takes the place of crop_padding"),
    ("stage1.training.augmentation", {"crop": 64}, "crops 64 px: set dataset.image_size to 64 or more"),
    ("evaluation.tests.0.poolings", [], "poolings"),
    ("evaluation.shots", [], "shots"),
    ("dataset", {"name": "fc100", "image_size": 8}, "need 16 px"),
    ("dataset", {"name": "cub", "split": "halves"}, "no validation classes"),
    ("stage1.networks.gap.training", {"objective": {"distillation": {"teacher": "dense"}}}, "must stand above it .* none"),
    (
        "stage1.training.objective",
        {"rotation": {"views": "some"}},
        r"objective\.rotation\.views: should be 'all' or 'one', not 'some'",
    ),
    ("activation_maps", {"networks": ["gap", "x"]}, "activation_maps names the network 'x'"),
    ("stage1.networks.gap.training", {"objective": {"kind": "episodic"}}, r"classifier \{kind: none\} go together"),
    ("stage1.networks.gap.classifier", {"kind": "none"}, r"objective \{kind: episodic\} and classifier \{kind: none\}"),
    ("stage1.training.objective", {"kind": "episodes"}, r"objective: .*'classification', 'episodic'"),
    ("stage1.training.classes", "base+val", "leaves no classes to validate on"),
    ("stage1.training.validation", {"every": 0, "keep": "last", "patience": 3}, "patience needs validation"),
    (
        "stage1.training.validation",
        {"measure": "classification"},
        r"network 'gap': its state is chosen by the held-out base images that populations but novel, and activation maps, look",
    ),
    (
        "stage1.training.validation",
        {"measure": "classification", "keep": "last", "patience": 2},
        "chosen by the held-out base images",
    ),
    (
        "stage1.networks.gap",
        {**TASKS, "training": {**TASKS["training"], "validation": {"measure": "classification"}}},
        "has no classifier to validate: training.validation.measure is few_shot",
    ),
    ("stage1.networks.gap", with_distance(s=-1), r"distance\.s: should be greater than or equal to 0, not -1$"),
    ("stage1.networks.gap", with_distance(r=0), r"distance\.r: should be greater than 0, not 0$"),
    ("stage1.networks.gap", with_distance(r=1.5), r"distance\.r: should be less than or equal to 1, not 1.5$"),
    (
        "stage1.training.validation",
        {"shot": 5, "queries": 15, "images_per_class": 19},
        r"takes 5 \+ 15 images of a class: set it to 20",
    ),
    ("stage1.networks.gap", {**TASKS, "classifier": {"kind": "none", "pooling": "dense"}}, "one vector an image"),
    ("stage1.networks.gap", TASKS, "a network trained on tasks do not have"),
    ("evaluation.tests.0.poolings", ["flatten/gap"], "poolings"),
    (
        "evaluation.tests.0.poolings",
        ["flatten/flatten"],
        r"network 'gap' has class weights of gap features: .* only population is novel",
    ),
]


def test_held_out_images_may_be_looked_at_where_they_choose_nothing_or_are_not_tested_on():
    measure = {"measure": "classification"}
    assert parse(changed("stage1.training.validation", {**measure, "keep": "last"})).stage1.networks["gap"].training.holds_out
    novel = changed("evaluation.tests", [{"networks": ["gap"]}])
    every = changed("stage1.training", {"validation": measure, "classes": "base+val"}, novel)
    assert parse(every).stage1.networks["dense"].training.holds_out
    halves = {"name": "cub", "split": "halves", "image_size": 64}
    assert parse(changed("dataset", halves, changed("stage1.training.validation", measure, novel)))
    with pytest.raises(ConfigError, match=r"^config: network 'gap' is validated on held-out images .* but none are held out"):
        parse(changed("dataset.held_out", 0, every))
    with pytest.raises(ConfigError, match=r"network 'gap': its state is chosen by the held-out base images"):
        parse(changed("activation_maps", {"networks": ["gap", "dense"]}, every))


def test_a_teacher_brings_no_held_out_images_to_its_student():
    by_images, off = {"measure": "classification"}, {"every": 0, "keep": "last"}
    student = {**GOOD["stage1"]["networks"]["gap"], "training": {"objective": {"distillation": {"teacher": "gap"}}}}
    tests = [{"networks": ["student"], "populations": ["base"]}]
    chosen = changed("stage1.networks.gap.training", {"validation": by_images}, changed("stage1.networks.student", student))
    with pytest.raises(ConfigError, match=r"network 'gap': its state is chosen by the held-out base images"):
        parse(changed("evaluation.tests", tests, chosen))
    novel = changed("evaluation.tests", [{"networks": ["student"]}], changed("stage1.networks.student", student))
    both = changed("stage1.training", {"classes": "base+val", "validation": by_images}, novel)
    assert parse(both)
    with pytest.raises(ConfigError, match="the teacher is trained on what its student is validated on"):
        parse(changed("stage1.networks.gap.training", {"validation": off}, both))


def test_without_validation_what_it_would_measure_makes_no_other_network():
    off = {"every": 0, "keep": "last"}
    first, second = (
        parse(changed("stage1.training.validation", {**off, **more})).stage1.networks["gap"].key()
        for more in ({}, {"measure": "classification"})
    )
    assert first == second


IMPRINTED: dict[str, Any] = {
    **GOOD,
    "stage2": {
        "imprinting": {"method": "imprinting"}, "transfer": {"method": "imprinting", "classes": "novel"},
        "implants": {"method": "implanting"},
    },
    "evaluation": {"way": "all", "queries": "all", "tests": [{"networks": ["gap"], "adaptation": "imprinting"}]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("evaluation.queries", 5, "way: all and queries: all go together"),
        ("evaluation.tests.0.adaptation", None, "names an adaptation that extends the classifier"),
        ("evaluation.tests.0.adaptation", "implants", "names an adaptation that extends the classifier"),
        ("evaluation.tests.0.adaptation", "nothing", "names an adaptation that extends|stage2 has imprinting"),
        ("evaluation.tests.0.poolings", ["gap/dense"], "leave `poolings` out"),
        ("evaluation.tests.0.networks", ["dense"], "classifier of dense features: train one with kind: cosine"),
        ("stage1.networks.gap.classifier", {"kind": "linear"}, "has a linear classifier"),
        ("evaluation.tests.0", {"networks": ["gap"], "adaptation": "transfer", "populations": ["all"]}, "has no base classes"),
        ("stage2.imprinting.weights", "mean", r"weights"),
        ("stage2.imprinting", {"method": "imprinting", "weights": "random", "views": 5}, "views are of imprinted weights"),
        ("stage2.imprinting", {"method": "imprinting", "weights": "nearest", "finetuning": {}}, "has nothing to fine-tune"),
        ("stage2.imprinting.finetuning", {"epochs": 0}, r"finetuning\.epochs"),
        (
            "stage2.imprinting.finetuning",
            {"augmentation": {"crop": 64}},
            r"'imprinting': finetuning\.augmentation\.crop is 64, but network 'gap' was trained with null: set it to that$",
        ),
        (
            "stage2.joint",
            {"method": "joint_training", "classifier": {"kind": "none"}},
            r"^config: stage2\.joint\.classifier\.kind: should be 'cosine' or 'linear', not 'none'$",
        ),
        (
            "stage2.joint",
            {"method": "joint_training", "classifier": {"pooling": "dense"}},
            r"^config: stage2\.joint\.classifier\.pooling: should be 'gap' or 'gmp', not 'dense'$",
        ),
        ("stage2.imprinting.method", "imprintin", r"stage2\.imprinting"),
    ],
)
def test_bad_settings_of_imprinting(path, value, message):
    assert parse(IMPRINTED)
    with pytest.raises(ConfigError, match=message) as caught:
        parse(changed(path, value, IMPRINTED))
    assert "\n" not in str(caught.value)


def test_populations_of_extended_classifiers_are_theirs_alone():
    with pytest.raises(ConfigError, match="populations novel_in_all are of adaptations that extend"):
        parse(changed("evaluation.tests.0.populations", ["novel_in_all"]))


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_bad_settings_are_refused_in_one_line_with_their_key(path, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(changed(path, value))
    assert "\n" not in str(caught.value)


def test_base_and_both_need_held_out_images():
    data = changed("evaluation.tests.0.populations", ["novel", "both"])
    assert parse(data)
    data["dataset"]["held_out"] = 0
    with pytest.raises(ConfigError, match=r"set dataset\.held_out above 0"):
        parse(data)


def test_a_network_trained_on_tasks_is_tested_with_its_own_distance():
    data = changed("stage1.networks.tasks", TASKS)
    data["evaluation"]["tests"] = [{"networks": ["tasks"], "poolings": ["flatten/flatten"]}]
    network = parse(data).stage1.networks["tasks"]
    assert network.distance is not None
    assert network.distance.name == "squared_euclidean"
    data["evaluation"]["tests"][0]["poolings"] = ["gap/gap"]
    with pytest.raises(ConfigError, match="its only poolings are flatten/flatten"):
        parse(data)
    data["evaluation"]["tests"][0] |= {"poolings": ["flatten/flatten"], "adaptation": "implants", "shots": [5]}
    with pytest.raises(ConfigError, match="'implants' adapts networks trained to classify"):
        parse(data)


def test_a_network_trained_on_tasks_teaches_nobody():
    data = changed("stage1.networks.gap.training", {"objective": {"distillation": {"teacher": "tasks"}}})
    data["stage1"]["networks"] = {"tasks": TASKS, **data["stage1"]["networks"]}
    with pytest.raises(ConfigError, match="'tasks' was trained on tasks and has no class probabilities"):
        parse(data)


def test_a_teacher_of_flattened_features_needs_images_of_its_own_size():
    taught = {"objective": {"distillation": {"teacher": "teacher"}}}
    flat = {"backbone": {"name": "c128f"}, "classifier": {"pooling": "flatten"}}
    data = changed("dataset.image_size", 84)
    networks = data["stage1"]["networks"]
    data["stage1"]["networks"] = {"teacher": flat, **networks, "gap": {**networks["gap"], "training": taught}}
    assert parse(data)
    data["stage1"]["networks"]["gap"]["training"] = {**taught, "augmentation": {"crop": 64}}
    with pytest.raises(ConfigError, match=r"'gap' learns from images of 64 px, .* flattened features of 84 px: give both"):
        parse(data)
    data["stage1"]["networks"]["teacher"] = {**flat, "training": {"augmentation": {"crop": 64}}}
    assert parse(data)
    data["stage1"]["networks"]["gap"]["training"] = taught  # the teacher sees the central crop of the larger images
    assert parse(data)


def test_activation_maps_show_no_network_the_images_it_was_trained_on():
    data = changed("activation_maps", {"networks": ["gap", "joint"]})
    joint = {"classes": "base+val", "validation": {"every": 0, "keep": "last"}}
    data["stage1"]["networks"]["joint"] = {"backbone": {"name": "c128f"}, "training": joint}
    assert parse(data)
    data["evaluation"]["part"] = "val"
    with pytest.raises(ConfigError, match=r"activation_maps: network 'joint' is trained on the validation classes"):
        parse(data)


def test_keys_left_out_of_an_optimizer_of_fine_tuning_are_those_of_fine_tuning():
    usual = FinetuningSettings().optimizer
    given = FinetuningSettings.model_validate({"optimizer": {"lr": 0.5}}).optimizer
    assert given == usual.model_copy(update={"lr": 0.5})
    assert (given.name, given.weight_decay, given.head_factor) == ("rmsprop", 0.0, 10.0)
