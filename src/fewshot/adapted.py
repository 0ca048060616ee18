"""The channels that stage 2 added to a network's features, as they lie in a folder.

features.npy (float16, T x way (shot + queries) x r x e; a task's support images first, class by class), adapt.json,
metrics.jsonl (means over tasks, a line an epoch).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.episodes import Episodes
from fewshot.errors import DataError
from fewshot.files import load_array, read_record


def load_adapted(folder: Path, network_sha256: str, episodes: Episodes) -> npt.NDArray[np.float16]:
    """The added channels of a folder, memory-mapped: (T, way (shot + queries), r, e).

    Raises:
        DataError: missing, damaged, or of another network or other tasks.
    """
    record = read_record(folder / "adapt.json", ("features.npy",), "delete the folder and adapt again")
    if record["network_sha256"] != network_sha256 or record["episodes_hash"] != episodes.hash:
        raise DataError(f"{folder}: adapted for another network or other tasks; delete the folder and adapt again")
    try:
        features: npt.NDArray[np.float16] = load_array(folder / "features.npy", mapped=True)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder}: features damaged ({type(error).__name__}); delete the folder and adapt again") from None
    return features
