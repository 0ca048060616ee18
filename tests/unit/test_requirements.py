import dataclasses

import numpy as np
import pytest

from fewshot import requirements, stages
from fewshot.config import merge, parse
from fewshot.errors import DataError
from fewshot.plan import Plan


@pytest.fixture
def plan_of(tiny_config):
    return lambda **changes: Plan(parse(merge(tiny_config.as_dict(), changes)))


MAPS = {"networks": ["c128f-gap", "resnet12-dense"]}
ON_TASKS = {"backbone": {"name": "conv64"}, "classifier": {"kind": "none", "pooling": "flatten"}}


def test_what_is_there_is_enough(tiny_store, plan_of):
    requirements.require(tiny_store, plan_of(activation_maps=MAPS | {"shot": 19}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"activation_maps": MAPS | {"shot": 20}},
            r"in 4 of 4 .*, 20; .* shot 20 \+ 1 = 21: lower activation_maps\.shot, or add",
        ),
        ({"evaluation": {"queries": 19}}, r"needs shots 2 \+ queries 19 = 21: lower evaluation\.shots or evaluation\.queries"),
        (
            {"stage1": {"networks": {"resnet12-dense": {"training": {"validation": {"queries": 19}}}}}},
            r"lower stage1\.training\.validation\.shot or stage1\.training\.validation\.queries",
        ),
        (
            {
                "stage1": {"networks": {"tasks": ON_TASKS | {"training": {"objective": {"kind": "episodic", "way": 99}}}}},
                "evaluation": {"tests": [{"networks": ["tasks"], "poolings": ["flatten/flatten"]}]},
            },
            "objective\\.way is 99, but training has only",
        ),
    ],
)
def test_too_few_images_are_refused_with_the_keys_to_lower(tiny_store, plan_of, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        requirements.require(tiny_store, plan_of(**changes))
    assert "\n" not in str(caught.value)


def test_populations_of_base_images_need_some(tiny_store, plan_of, tiny_config):
    none = dataclasses.replace(tiny_store, held_out=np.zeros_like(tiny_store.held_out))
    with pytest.raises(DataError, match=r"no held-out images of base classes, which population base of .* take the population"):
        requirements.require(none, plan_of())
    novel = {"tests": [{"networks": ["c128f-gap"]}]}
    requirements.require(none, plan_of(evaluation=novel))
    folder = {"name": "folder", "folder": "mine", "test_folder": "mine/tested"}
    plan = Plan(parse(tiny_config.as_dict() | {"dataset": folder}))
    with pytest.raises(DataError, match="add images of base classes to mine/tested, or take"):
        requirements.require(none, plan)


def test_nothing_is_trained_or_tested_before_it_is_asked(tmp_path, monkeypatch, run_stages, plan_of):
    """The networks of another run may be there already, so testing asks too."""
    monkeypatch.chdir(tmp_path)
    plan = plan_of(activation_maps=MAPS | {"shot": 40})
    run_stages(plan, "episodes")
    with pytest.raises(DataError, match=r"lower activation_maps\.shot"):
        stages.train(plan, plan.networks[0], threads=1)
    assert not plan.network_dir(plan.networks[0]).exists()
    run_stages(Plan(plan.config.model_copy(update={"activation_maps": None})), "extract", "train")
    with pytest.raises(DataError, match=r"lower activation_maps\.shot"):
        stages.evaluate(plan, plan.evaluations[0], threads=1)
