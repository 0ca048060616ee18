"""What methods of extended classifiers share."""

import pytest
import torch

from fewshot.errors import NotFiniteError
from fewshot.methods.base import decide


def test_the_largest_logit_among_all_and_among_its_own_kind():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 5.0], [0.0, 4.0, 9.0, 5.0]])
    assert decide(logits, queries=2, num_base=2).tolist() == [[0, 0], [3, 1], [2, 1]]
    assert decide(logits[:2, 2:], queries=2, num_base=2, with_base=False).tolist() == [[-1, 0], [-1, 1]]


def test_scores_that_are_not_numbers_are_no_class():
    for value in (float("nan"), float("inf")):
        logits = torch.zeros(3, 4)
        logits[1, 2] = value
        for with_base in (True, False):
            with pytest.raises(NotFiniteError, match="not numbers, or infinite"):
                decide(logits, 3, 2, with_base)
    logits[1, 2] = -float("inf")  # a mask
    assert decide(logits, 3, 2)[1].tolist() == [0, 1]
