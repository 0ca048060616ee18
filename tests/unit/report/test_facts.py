"""The words at the head and the end of a report."""

from fewshot.config.extension import ActivationMappingSettings
from fewshot.data.store import open_store
from fewshot.report import facts
from fewshot.report.published import Published, load_published
from fewshot.report.results import make_rows, read_settings, read_store
from fewshot.report.times import job_times


def test_a_method_without_words_of_its_own_is_told_by_its_docstring(made_run, monkeypatch) -> None:
    plan = made_run(
        stage2={"mapped": {"method": "activation_to_parameter"}},
        evaluation={"shots": [5], "tasks": 10, "queries": 3, "tests": [{"networks": ["r12-gap"], "adaptation": "mapped"}]},
        activation_maps=None,
    )
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(load_published()))
    assert facts.terms(rows) == "GAP: global average pooling; Act2Param: parameters predicted from activations"
    monkeypatch.delitem(facts._TERMS, "Act2Param")
    (first, *_) = ActivationMappingSettings.__doc__.splitlines()
    assert facts.terms(rows) == f"GAP: global average pooling; Act2Param: {first.rstrip('.')}"


def test_the_sum_of_times_says_of_how_many_jobs_it_is(made_run) -> None:
    """Outside Snakemake only trainings and adaptations keep a time."""
    plan = made_run()
    store, times = open_store(plan.store_dir, images=False), list(job_times(plan))
    words = dict(facts.facts(plan, store, [], times))
    assert words["Run"] == plan.config.run
    assert words["Work"].endswith("sum of 4 of 12 jobs, the others left no time")
    known = [time for time in times if time.seconds is not None]
    assert dict(facts.facts(plan, store, [], known))["Work"].endswith("sum of all jobs")
