"""`mlflow ui` on what tracking wrote: the table of runs, a training's curves and its artifacts, seen in the browser."""

import contextlib
from pathlib import Path

import pytest
from playwright.sync_api import expect

from fewshot import tracking
from fewshot.config import load
from fewshot.plan import Plan

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
PATIENCE = 240_000


@pytest.fixture(scope="module")
def tracked(run_folder):
    """What the tracking rules do after a run: the parent, and a run a job."""
    with contextlib.chdir(run_folder), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        plan = Plan(load(ROOT / "tests" / "integration" / "tiny.yaml"))
        parent = tracking.init(plan)
        return run_folder, parent, {name: run for job in plan.networks for name, run in tracking.track(plan, job).items()}


def test_the_runs_their_curves_and_their_artifacts_are_seen(tracked, served, look):
    folder, _, runs = tracked
    address = served(folder, "mlflow", "ui")
    page = look(f"{address}/#/experiments/1/runs").page
    parent = page.locator("[role=row]").filter(has_text="tiny")
    parent.get_by_role("button").first.click(timeout=PATIENCE)  # shows the jobs under the run
    for name in ("train gap seed0", "train dense seed0"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE)
    training = f"{address}/#/experiments/1/runs/{runs['train dense seed0']}"
    curves = look(f"{training}/model-metrics").page
    expect(curves.get_by_text("loss", exact=True).first).to_be_visible(timeout=PATIENCE)
    expect(curves.locator(".js-plotly-plot path.js-line").first).to_be_attached(timeout=PATIENCE)
    artifacts = look(f"{training}/artifacts").page
    for name in ("model.json", "metrics.jsonl"):
        expect(artifacts.get_by_text(name, exact=True).first).to_be_visible(timeout=PATIENCE)
    artifacts.get_by_text("model.json", exact=True).first.click()
    expect(artifacts.get_by_text("data_hash").first).to_be_visible(timeout=PATIENCE)
