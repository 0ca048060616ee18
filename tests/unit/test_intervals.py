"""The interval over tasks, draws or seeds."""

import math

import numpy as np
import pytest

from fewshot.intervals import in_words, interval, known, t_quantile


def test_interval_is_students():
    mean, half = interval(np.array([60.0, 70.0, 80.0, 90.0]))
    assert mean == 75.0
    assert half == pytest.approx(3.18244631 * np.sqrt((225 + 25 + 25 + 225) / 3) / 2)


def test_a_single_value_has_no_interval():
    mean, half = interval(np.array([50.0]))
    assert mean == 50.0
    assert math.isnan(half)
    assert known(accuracy=mean, ci95=half) == {"accuracy": 50.0}
    assert [in_words(mean, value) for value in (half, None, 1.5)] == ["50.00 %", "50.00 %", "50.00 ± 1.50 %"]


def test_over_thousands_of_tasks_it_is_the_papers_formula():
    """1.96 sigma / sqrt(tasks): the same to three digits over 5,000 tasks."""
    accuracies = np.random.default_rng(0).normal(60, 10, 5_000)
    assert interval(accuracies)[1] == pytest.approx(1.96 * accuracies.std() / np.sqrt(5_000), rel=4e-4)


@pytest.mark.parametrize("draws", [2, 3, 10])
def test_intervals_over_few_draws_hold_the_true_mean_as_often_as_they_say(draws):
    """With 1.96 in place of Student's t it was 70, 81 and 92 times in 100."""
    samples = np.random.default_rng(0).normal(0, 1, (10_000, draws))
    found = np.array([interval(sample) for sample in samples])
    assert np.mean(np.abs(found[:, 0]) < found[:, 1]) == pytest.approx(0.95, abs=0.01)


def test_t_quantiles():
    assert t_quantile(1) == pytest.approx(12.7062047362, abs=1e-9)
    assert t_quantile(31) == pytest.approx(2.0395134464, abs=1e-9)
    z = 1.9599639845
    assert t_quantile(100_000) == pytest.approx(z + (z**3 + z) / (4 * 100_000), abs=1e-9)  # Cornish and Fisher's first term
