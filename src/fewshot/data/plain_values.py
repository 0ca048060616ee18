"""What archives hold as plain lists, checked before it becomes arrays and names: a pickle may say anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LONGEST_TEXT = 1000
"""Characters of a name."""


def whole_numbers(value: Any, most: int) -> npt.NDArray[np.int64]:
    """What a pickle holds as a list or an array of whole numbers, as int64 (N,).

    Checked before it is copied: lists in lists, each many times in the next, would be larger than any memory.

    Args:
        value: of the pickle.
        most: how many there may be.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if isinstance(value, np.ndarray):
        plain = value.ndim == 1 and value.dtype.kind in "iu"
    else:
        plain = isinstance(value, list | tuple) and all(type(item) is int and abs(item) < 2**63 for item in value[: most + 1])
    if not plain or len(value) > most:
        raise ValueError("no list of whole numbers, or too long a one")
    return np.asarray(value).astype(np.int64)


def texts(value: Any, most: int) -> list[str]:
    """What a pickle holds as a list of short texts, which Python 2 wrote as bytes.

    Args:
        value: of the pickle.
        most: how many there may be.

    Raises:
        ValueError: it is nothing of the kind.
    """
    plain = isinstance(value, list | tuple) and len(value) <= most
    if not plain or not all(isinstance(item, str | bytes) and len(item) <= LONGEST_TEXT for item in value):
        raise ValueError("no list of texts, or too long a one")
    return [item.decode() if isinstance(item, bytes) else item for item in value]
