"""Which paper a run is held against, and what its file says by itself."""

from dataclasses import replace

from fewshot.config import load
from fewshot.plan import Plan
from fewshot.report.deviations import deviations
from tests.unit.report.run_files import RUNS, facts
from tests.unit.report.test_paper000 import AS_PAPER


def test_other_data_sets_have_only_the_config_and_the_store_to_go_by() -> None:
    drawn = replace(AS_PAPER, dataset="glyphs", tasks=3, notes=["drawn"], config_deviations=("short", "drawn"))
    assert deviations(drawn) == ["drawn", "short"]
    trained_on_tasks = load(RUNS / "002_table1_omniglot.yaml").stage1.networks["lsed-1shot"]
    assert deviations(replace(AS_PAPER, network=trained_on_tasks)) == []


def test_sentences_of_the_run_files_do_not_repeat_what_is_found() -> None:
    """What the settings say by themselves has one home; see `facts`."""
    for path in sorted(RUNS.glob("*.yaml")):
        plan = Plan(load(path))
        found = {text for job in plan.evaluations for text in deviations(facts(plan, job))}
        assert not set(plan.config.deviations) & found, path.name


def test_the_precision_of_each_stage_is_told_by_itself() -> None:
    bfloat16 = "stage 2 trains the network in bfloat16; the paper names no precision"
    assert set(deviations(replace(AS_PAPER, adapted_in="bfloat16"))) - set(deviations(AS_PAPER)) == {bfloat16}
    assert deviations(replace(AS_PAPER, adapted_in="float32")) == deviations(AS_PAPER)
