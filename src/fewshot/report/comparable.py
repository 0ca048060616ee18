"""Which paper has a measured setting, so that its numbers can be set beside it.

Only for the paper's own networks and images. How long or with what optimizer stage 1 was trained does not count here: the
deviations say it.
"""

from __future__ import annotations

from fewshot.config import ActivationMappingSettings, AdaptationSettings, NetworkSettings
from fewshot.report.paper000 import is_of_paper_000
from fewshot.report.paper002 import is_of_paper_002
from fewshot.report.paper004 import is_of_paper_004

MAIN_TABLES = {"000": ("4", "5"), "002": ("1",), "004": ("readme",)}
"""Tables that compare methods, of each paper whose numbers stand beside measured ones by `paper_of`."""
OTHER = "other"
"""Stands for the paper in rows of published.csv that tables only list, as other published results."""
PAPERS = (*sorted([*MAIN_TABLES, "001"]), OTHER)
"""What stands in the column `paper` of published.csv; the tables of paper 001 are of its own shape (`low_shot`)."""


def paper_of(
    dataset: str, network: NetworkSettings, adaptation: AdaptationSettings | None, image_size: int, shot: int | None = None
) -> str | None:
    """`000`, `002` or `004`; None where no paper has this setting.

    Args:
        dataset: of the run.
        network: its settings.
        adaptation: stage 2; None: as trained.
        image_size: pixels.
        shot: of the test; networks of paper 002 are tested with the shots they were trained with (None: any).
    """
    if isinstance(adaptation, ActivationMappingSettings):
        return "004" if is_of_paper_004(dataset, network, adaptation, image_size) else None
    if network.distance is not None:
        return "002" if adaptation is None and is_of_paper_002(dataset, network, image_size, shot) else None
    return "000" if is_of_paper_000(dataset, network, adaptation, image_size) else None
