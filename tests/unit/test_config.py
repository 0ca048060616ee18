import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fewshot.config import FinetuningSettings, load, merge, parse, read
from fewshot.errors import ConfigError
from fewshot.plan import Plan

ROOT = Path(__file__).parents[2]

GOOD: dict[str, Any] = {
    "run": "a-run",
    "dataset": {"name": "glyphs"},
    "stage1": {
        "training": {"iterations": 10, "optimizer": {"lr": 0.2, "momentum": 0.5}},
        "networks": {
            "gap": {"backbone": {"name": "c128f"}},
            "dense": {
                "backbone": {"name": "resnet12"},
                "classifier": {"pooling": "dense"},
                "training": {"optimizer": {"lr": 0.3}},
            },
        },
    },
    "stage2": {"implants": {"method": "implanting"}},
    "evaluation": {"tests": [{"networks": ["gap"], "populations": ["novel", "base"]}]},
}


TASKS = {
    "backbone": {"name": "conv64"}, "classifier": {"kind": "none", "pooling": "flatten"},
    "training": {"objective": {"kind": "episodic"}},
}  # fmt: skip
"""A network trained on tasks."""


def changed(path: str, value: Any, good: dict[str, Any] | None = None) -> dict[str, Any]:
    data = copy.deepcopy(good or GOOD)
    *parents, last = path.split(".")
    node: Any = data
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
    node[int(last) if isinstance(node, list) else last] = value
    return data


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
    ("stage1.training.classes", "base+val", "leaves nothing to validate on"),
    ("stage1.training.validation", {"every": 0, "keep": "last", "patience": 3}, "patience needs validation"),
    (
        "stage1.training.validation",
        {"shot": 5, "queries": 15, "images_per_class": 19},
        r"takes 5 \+ 15 images of a class: set it to 20",
    ),
    ("stage1.networks.gap", {**TASKS, "classifier": {"kind": "none", "pooling": "dense"}}, "one vector an image"),
    ("stage1.networks.gap", TASKS, "a network trained on tasks do not have"),
    ("evaluation.tests.0.poolings", ["flatten/gap"], "poolings"),
]


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


def test_a_file_that_is_not_in_utf_8_is_told_with_the_line(tmp_path):
    (tmp_path / "y.yaml").write_bytes("run: x\ntitle: café\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"y\.yaml: line 2: not UTF-8; save the file in this encoding$"):
        load(tmp_path / "y.yaml")


def test_files_that_are_missing_or_not_yaml_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"x\.yaml: no such config file"):
        load(tmp_path / "x.yaml")
    for text in ("a: [", "- 1"):
        (tmp_path / "y.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"y\.yaml"):
            load(tmp_path / "y.yaml")


def written(folder, **files):
    for name, data in files.items():
        (folder / f"{name}.yaml").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(data))
    return folder


def test_a_file_lies_over_those_it_extends_the_later_over_the_earlier(tmp_path):
    written(
        tmp_path,
        whole={**GOOD, "notes": ["one", "two"]},
        short={"stage1": {"training": {"iterations": 3}}, "evaluation": {"tasks": 20}},
        child={"extends": ["whole.yaml", "short.yaml"], "run": "child", "notes": ["three"], "evaluation": {"tasks": 30}},
        grandchild={"extends": "child.yaml", "run": "grandchild", "stage1": {"training": {"optimizer": {"lr": 0.7}}}},
    )
    child, grandchild = load(tmp_path / "child.yaml"), load(tmp_path / "grandchild.yaml")
    assert (child.run, grandchild.run) == ("child", "grandchild")
    assert child.notes == grandchild.notes == ("three",), "lists are replaced whole"
    assert child.evaluation.tasks == grandchild.evaluation.tasks == 30
    trainings = [config.stage1.networks["gap"].training for config in (child, grandchild)]
    assert [training.iterations for training in trainings] == [3, 3]
    assert [(training.optimizer.lr, training.optimizer.momentum) for training in trainings] == [(0.2, 0.5), (0.7, 0.5)]
    assert read(tmp_path / "whole.yaml", over={"device": "cpu"}) == {**GOOD, "notes": ["one", "two"], "device": "cpu"}


def test_a_name_of_a_run_is_not_handed_on(tmp_path):
    written(tmp_path, whole=GOOD, child={"extends": "whole.yaml"})
    with pytest.raises(ConfigError, match="run: "):
        load(tmp_path / "child.yaml")
    assert parse(read(tmp_path / "child.yaml", over={"run": "named"})).run == "named"


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("nothing.yaml", r"^\S*a\.yaml: extends \S*nothing\.yaml, which is no file; name one beside it$"),
        ("", r"a\.yaml: extends \S+, which is no file"),
        ("a.yaml", r"^\S*a\.yaml: extends a\.yaml, which leads back to itself; take the key out of one of them$"),
        (["whole.yaml", "sub/b.yaml"], r"b\.yaml: extends \.\./a\.yaml, which leads back to itself"),
        ({"file": "whole.yaml"}, "extends names a file beside it, or a list of them"),
        (["whole.yaml", 1], "extends names a file beside it, or a list of them"),
        (None, "extends names a file beside it, or a list of them"),
    ],
)
def test_a_file_that_is_extended_must_be_there_and_not_lead_back(tmp_path, extends, message):
    written(tmp_path, **{"whole": GOOD, "a": {"extends": extends, "run": "a"}, "sub/b": {"extends": "../a.yaml"}})
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_may_be_extended_on_two_ways(tmp_path):
    written(
        tmp_path, whole=GOOD, b={"extends": "whole.yaml", "device": "cpu"}, c={"extends": "whole.yaml", "seeds": [3]},
        d={"extends": ["b.yaml", "c.yaml"], "run": "d"},
    )  # fmt: skip
    config = load(tmp_path / "d.yaml")
    assert (config.device, config.seeds) == ("cpu", (3,))


def test_keys_tell_settings_apart_but_not_how_often_they_report():
    gap = parse(GOOD).stage1.networks["gap"]
    assert gap.key() == parse(copy.deepcopy(GOOD)).stage1.networks["gap"].key()
    assert parse(changed("stage1.training.log_every", 7)).stage1.networks["gap"].key() == gap.key()
    assert parse(changed("stage1.training.batch_size", 7)).stage1.networks["gap"].key() != gap.key()


def test_a_field_that_came_later_leaves_the_keys_of_those_before_as_they_were():
    gap = parse(GOOD).stage1.networks["gap"]
    assert "objective" not in gap.identity()["training"]
    assert parse(changed("stage1.training.objective", {"kind": "classification"})).stage1.networks["gap"].key() == gap.key()
    smoothed = parse(changed("stage1.training.objective", {"label_smoothing": 0.1})).stage1.networks["gap"]
    assert smoothed.identity()["training"]["objective"]["label_smoothing"] == 0.1
    assert smoothed.key() != gap.key()


@pytest.mark.parametrize(
    ("path", "value"),
    [("embedding", 64), ("training.optimizer.head_factor", 10.0), ("training.schedule.decay", 0.5)],
)
def test_a_field_that_came_later_counts_once_it_is_used(path, value):
    before = parse(GOOD).stage1.networks["gap"]
    network = parse(changed(f"stage1.networks.gap.{path}", value)).stage1.networks["gap"]
    assert network.key() != before.key()
    assert network.identity() != before.identity()


@pytest.mark.parametrize(
    ("run", "store", "networks"),
    [
        ("fc100_cpu", "fc100-32px-a1c143b4b8", ["ce6181b1c3", "80d023f718", "f20a7d8ef5"]),
        ("000_table1_c128f_cpu", "miniimagenet-84px-a7d0afd51e", ["d0781e2118", "f6d0499160"]),
        ("000_table1_c128f_cosine_cpu", "miniimagenet-84px-a7d0afd51e", ["2ae3fd9891", "2a821a106c"]),
    ],
)
def test_keys_under_which_networks_were_trained_stay(run, store, networks):
    """A key that changes makes everyone train anew; a new field belongs to its settings' `added`."""
    plan = Plan(load(ROOT / "config" / "runs" / f"{run}.yaml"))
    assert plan.store == store
    assert [job.key.rpartition("-")[2] for job in plan.networks][: len(networks)] == networks


trees = st.recursive(st.integers(), lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=8)


@given(st.dictionaries(st.sampled_from("abcd"), trees), st.dictionaries(st.sampled_from("abcd"), trees))
def test_merge_lays_one_tree_over_another(base, over):
    merged = merge(base, over)
    assert merge(merged, over) == merged
    assert merge(base, {}) == base
    assert set(merged) == set(base) | set(over)
    for key, value in over.items():
        if not isinstance(value, dict):
            assert merged[key] == value


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


def test_a_mapping_that_merges_itself_is_named(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("a: &a\n  <<: *a\n  x: 1\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: not valid YAML: a mapping merges \(<<\) itself"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [1]\nrun: x\nseeds: [2]\n", r"run\.yaml: line 3: the key 'seeds' is in line 1 already; keep one of them$"),
        ("a:\n  b: {c: 1, c: 1}\n", r"line 2: the key 'c' is in line 2 already"),
        ("a: [{b: 1,\n 'b': 2}]\n", r"line 2: the key 'b' is in line 1 already"),
        ("a: &a {b: 1, b: 2}\nc: {<<: *a}\n", r"line 1: the key 'b' is in line 1 already"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_its_place(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "run.yaml")


def test_keys_may_lie_over_merged_ones_and_stand_in_several_mappings(tmp_path):
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: [*a, *b], y: 3}\nd: *b\ne: {x: {x: 4}}\n"
    (tmp_path / "run.yaml").write_text(text)
    found = read(tmp_path / "run.yaml")
    assert found == yaml.safe_load(text)
    assert found["b"] == {"x": 2, "y": 1}
    assert found["c"]["y"] == 3


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
