"""Which figures a run has."""

from pathlib import Path

import pytest

from fewshot import stages
from fewshot.config import load
from fewshot.drawings import drawings, figures
from fewshot.plan import Plan

ROOT = Path(__file__).parents[2]
LOW_SHOT = ("low_shot_accuracy", "embedding_size", "finetuning_curves")


@pytest.mark.parametrize(
    ("run", "besides"),
    [
        ("config.yaml", {"activation_maps": "png", "map_statistics": "svg"}),
        ("runs/fc100_cpu.yaml", {}),
        ("runs/001_cub.yaml", {**dict.fromkeys(LOW_SHOT, "svg"), "exemplars": "png"}),
        ("runs/002_table1_omniglot.yaml", {"distance_histograms": "svg", "leak_sweep": "svg"}),
        ("runs/004_miniimagenet.yaml", {"class_vectors": "svg"}),
    ],
)  # fmt: skip
def test_every_run_has_four_figures_and_those_that_it_asks_for(run, besides) -> None:
    found = figures(Plan(load(ROOT / "config" / run)))
    always = ("accuracy_by_shot", "published_vs_measured", "paired_gains", "training_curves")
    assert {name: endings[0] for name, endings in found.items()} == dict.fromkeys(always, "svg") | besides


def test_every_drawing_is_a_stage_and_a_rule() -> None:
    names = {name for run in (ROOT / "config" / "runs").glob("*.yaml") for name in drawings(Plan(load(run)))}
    assert names == set(stages.DRAWINGS)
    rules = (ROOT / "workflow" / "rules" / "report.smk").read_text()
    assert all(f"rule {name}:" in rules for name in names)
