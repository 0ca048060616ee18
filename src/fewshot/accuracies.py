"""The file of an evaluated setting: parquet, a row a task, a column a population; accuracies in percent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.errors import DataError
from fewshot.files import atomic

Floats = npt.NDArray[np.float64]

VALUES = 20_000_000
"""A file holds no more, in all columns together; a few bytes of parquet can stand for any number."""


def save(path: Path, accuracies: Mapping[str, npt.NDArray[np.floating]]) -> None:
    """Write the accuracies (percent) of the first n tasks, atomically.

    Args:
        path: of the file.
        accuracies: population -> (n,).
    """
    import pandas as pd

    columns = {"task": np.arange(len(next(iter(accuracies.values()))), dtype=np.int64), **accuracies}
    content = pd.DataFrame(columns).to_parquet(index=False)
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def load(path: Path, cure: str) -> dict[str, Floats]:
    """Read what `save` wrote: population -> accuracies (n,) of the tasks 0 .. n - 1, percent. Memory is bounded by `VALUES`.

    Args:
        path: of the file.
        cure: what to do about damage, in words.

    Raises:
        DataError: the file is missing, is no such table, or holds what is no percentage.
    """
    from pyarrow import parquet, types

    try:
        with parquet.ParquetFile(path) as file:
            head = file.metadata  # of it the counts alone: pyarrow ends the process over what else can be wrong in it
            if head.num_rows * head.num_columns > VALUES:
                raise ValueError(f"{head.num_rows:,} rows of {head.num_columns:,} columns")
            if not all(types.is_integer(field.type) or types.is_floating(field.type) for field in file.schema_arrow):
                raise ValueError("not all numbers")
            table = file.read()
        columns = {name: table.column(name).to_numpy().astype(np.float64) for name in table.column_names}
        tasks = columns.pop("task")
    except FileNotFoundError:
        raise DataError(f"{path}: missing; {cure}") from None
    except MemoryError:
        raise
    except Exception as error:  # what describes a parquet file goes through several parsers, which can raise nearly anything
        if isinstance(error, OSError) and error.errno is not None:  # it cannot be read: that says nothing of what it is
            raise
        raise DataError(f"{path}: not a table of per-task results ({type(error).__name__}); {cure}") from None
    if not np.array_equal(tasks, np.arange(len(tasks))):
        raise DataError(f"{path}: its tasks are not numbered 0, 1, 2 and so on; {cure}")
    for name, values in columns.items():
        if not (np.isfinite(values).all() and ((values >= 0) & (values <= 100)).all()):
            raise DataError(f"{path}: column {name} is not all percent (0 to 100); {cure}")
    return columns
