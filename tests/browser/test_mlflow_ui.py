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
PATIENCE = 60_000
TRIES = 4


@pytest.fixture(scope="module")
def tracked(run_folder):
    """What the tracking rules do after a run: the parent, and a run a job."""
    with contextlib.chdir(run_folder), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        plan = Plan(load(ROOT / "tests" / "integration" / "tiny.yaml"))
        parent = tracking.init(plan)
        return run_folder, parent, {name: run for job in plan.networks for name, run in tracking.track(plan, job).items()}


def opened(look, address, *wanted):
    """A page once it shows what is wanted. MLflow's page does not ask again for what a busy server did not answer in time."""
    for _ in range(TRIES):
        seen = look(address)
        try:
            for find in wanted:
                expect(find(seen.page)).to_be_attached(timeout=PATIENCE)
        except AssertionError:
            shown = seen.page.locator("body").inner_text()[:2000]
        else:
            return seen.page
    raise AssertionError(f"{address} shows\n{shown}\nand says {seen.errors}")


def test_the_runs_their_curves_and_their_artifacts_are_seen(tracked, served, look):
    folder, _, runs = tracked
    address = served(folder, "mlflow", "ui", "--workers", "1")

    def text(words):
        return lambda page: page.get_by_text(words, exact=True).first

    def parent(page):
        return page.locator("[role=row]").filter(has_text="tiny").get_by_role("button").first

    page = opened(look, f"{address}/#/experiments/1/runs", parent)
    parent(page).click()  # shows the jobs under the run
    for name in ("train gap seed0", "train dense seed0"):
        expect(text(name)(page)).to_be_visible(timeout=PATIENCE)
    training = f"{address}/#/experiments/1/runs/{runs['train dense seed0']}"
    opened(look, f"{training}/model-metrics", text("loss"), lambda page: page.locator(".js-plotly-plot path.js-line").first)
    artifacts = opened(look, f"{training}/artifacts", text("model.json"), text("metrics.jsonl"))
    text("model.json")(artifacts).click()
    expect(artifacts.get_by_text("data_hash").first).to_be_visible(timeout=PATIENCE)
