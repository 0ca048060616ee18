"""The interval over tasks."""

import numpy as np
import pytest

from fewshot.intervals import interval


def test_interval_is_the_papers_formula():
    mean, half = interval(np.array([60.0, 70.0, 80.0, 90.0]))
    assert mean == 75.0
    assert half == pytest.approx(1.96 * np.sqrt((225 + 25 + 25 + 225) / 3) / 2)
    assert interval(np.array([50.0])) == (50.0, 0.0)
