"""What all tests share."""

import sys

import pytest


@pytest.fixture(autouse=True)
def denormal_numbers():
    """A job computes without denormal numbers (`select_device`); those after it in the process, hypothesis first, want them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
