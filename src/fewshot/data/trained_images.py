"""Which images of a store a network is trained on, and on which of the same classes it is validated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fewshot.config import TrainingSettings
from fewshot.data.held_out import divided
from fewshot.data.store import Store
from fewshot.errors import DataError

VALIDATED = "stage1.training.validation.measure: classification"


def trained_on(store: Store, training: TrainingSettings) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Row numbers (n,), ascending, of the images that a network is trained on, and the names of their classes, in order.

    Raises:
        DataError: it is to be validated on held-out images, and there are none.
    """
    named = store.classes.loc[store.classes["part"].isin(training.parts), "name"]
    rows = np.concatenate([store.rows(part) for part in training.parts])  # of base classes without those held out
    return (np.setdiff1d(rows, validated_on(store, training)) if training.holds_out else rows), list(named)


def validated_on(store: Store, training: TrainingSettings) -> npt.NDArray[np.int64]:
    """Row numbers (n,), ascending, of the held-out images of the classes that a network is trained on.

    Raises:
        DataError: there are none.
    """
    of_base = store.rows("held_out")
    if not len(of_base):
        raise DataError(
            f"{store.path}: no held-out images of base classes; {VALIDATED} needs dataset.held_out above 0, and a data set "
            "with test images of its own needs some of base classes"
        )
    of_val = [test for _, test in divided(store, "val", VALIDATED)] if "val" in training.parts else []
    return np.concatenate([of_base, *of_val])
