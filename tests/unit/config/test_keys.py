import copy
from pathlib import Path

import pytest

from fewshot.config import load, parse
from fewshot.plan import Plan
from tests.unit.config.settings import GOOD, changed

ROOT = Path(__file__).parents[3]


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


@pytest.mark.parametrize(
    ("run", "adaptation", "key"),
    [("001_fc100_cpu", "imprinting-ft", "2aa9f30b56"), ("000_table5_fc100", "implants", "53c29a1af7")],
)
def test_keys_under_which_adaptations_were_made_stay(run, adaptation, key):
    plan = Plan(load(ROOT / "config" / "runs" / f"{run}.yaml"))
    assert {job.key.rpartition("-")[2] for job in plan.adaptations if job.name == adaptation} == {key}
