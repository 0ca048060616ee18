"""Plain lists out of archives."""

import numpy as np
import pytest

from fewshot.data.plain_values import texts, whole_numbers


def shared(item: object, levels: int) -> object:
    """A list of ten times a list of ten times a list ...: as an array it would have 10 to the power of `levels` items."""
    for _ in range(levels):
        item = [item] * 10
    return item


def test_lists_of_labels_and_names_are_looked_at_before_they_are_copied():
    assert whole_numbers([1, 2], 2).tolist() == whole_numbers(np.array([1, 2], np.uint8), 2).tolist() == [1, 2]
    for wrong in (shared(1, 12), [1, 2, 3], np.zeros((1, 1), int), np.zeros(1), [1.5], [2**70], ["1"], 5, None, {}, "ab"):
        with pytest.raises((ValueError, TypeError)):
            whole_numbers(wrong, 2)
    assert texts([b"a", "b"], 2) == ["a", "b"]
    for wrong in (shared(b"a", 12), [b"a"] * 3, [b"a" * 2000], [1], b"ab", "ab", 5, None, {}, [b"\xff"]):
        with pytest.raises(ValueError, match=r"texts|utf-8"):
            texts(wrong, 2)
