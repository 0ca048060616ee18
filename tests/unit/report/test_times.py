"""Run times from records and benchmark files."""

import pytest

from fewshot.errors import DataError
from fewshot.report.times import duration, job_times, times_table


def benchmark(plan, rule: str, *names: str, text: str = "s\th:m:s\tmax_rss\n12.5\t0:00:12\t640.25\n") -> None:
    path = plan.benchmark_path(rule, *names)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_training_counts_its_own_seconds_and_other_jobs_have_snakemakes(made_run) -> None:
    plan = made_run()
    benchmark(plan, "prepare", plan.store)
    benchmark(plan, "train", plan.store, plan.networks[0].key, "seed0")
    times = list(job_times(plan))
    assert [time.job for time in times] == ["prepare", *["train", "extract"] * 3, "adapt", *["evaluate"] * 4]
    assert (times[0].seconds, times[0].memory) == (12.5, 640.25)
    assert (times[1].seconds, times[1].memory) == (61.7, 640.25)
    assert times[1].device == "CPU (made up, 2 cores)"
    assert times[2].seconds is None
    table = times_table(list(job_times(plan)))
    assert "5 jobs with a known time: 3 min 30 s of work" in table.caption
    assert "7 jobs left no time" in table.caption
    assert table.rows[0][2:5] == ["12.5", "640", ""]


def test_a_dash_is_not_measured(made_run) -> None:
    plan = made_run()
    benchmark(plan, "prepare", plan.store, text="s\tmax_rss\n0.4\t-\n")
    first = next(iter(job_times(plan)))
    assert (first.seconds, first.memory) == (0.4, None)


def test_a_damaged_file_is_one_line(made_run) -> None:
    plan = made_run()
    benchmark(plan, "prepare", plan.store, text="s\tmax_rss\n")
    with pytest.raises(DataError, match=r"\.tsv: not a benchmark file of Snakemake"):
        times_table(list(job_times(plan)))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"), (7620, "2 h 07 min")]
)
def test_duration_in_words(seconds, words) -> None:
    assert duration(seconds) == words
