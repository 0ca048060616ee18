import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fewshot.config import load, merge, parse, read
from fewshot.errors import ConfigError
from tests.unit.config.settings import GOOD


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
