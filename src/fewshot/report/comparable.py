"""Which paper has a measured setting, so that its numbers can be set beside it.

Only for the paper's own networks and images. How long or with what optimizer stage 1 was trained does not count here: the
deviations say it.
"""

from __future__ import annotations

from fewshot.config import ActivationMappingSettings, AdaptationSettings, Conv64Settings, NetworkSettings, WideResNetSettings
from fewshot.config.episodic import EpisodicSettings, LeakySquaredEuclideanSettings, SquaredEuclideanSettings
from fewshot.report.papers import is_of_the_paper

MAIN_TABLES = {"000": ("4", "5"), "002": ("1",), "004": ("readme",)}
"""Tables that compare methods, of each paper whose numbers stand in published.csv."""

LEAKS = {"omniglot": (28, 0.0, 0.01), "miniimagenet": (84, 4.0, 0.01)}
"""Data set -> image size in pixels, s and r of paper 002 (section 5.2)."""


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
        return "004" if _of_004(dataset, network, adaptation, image_size) else None
    if network.distance is not None:
        return "002" if adaptation is None and _of_002(dataset, network, image_size, shot) else None
    return "000" if is_of_the_paper(dataset, network, adaptation, image_size) else None


def _of_002(dataset: str, network: NetworkSettings, image_size: int, shot: int | None) -> bool:
    backbone, objective = network.backbone, network.training.objective
    if dataset not in LEAKS or not isinstance(backbone, Conv64Settings) or not isinstance(objective, EpisodicSettings):
        return False
    size, s, r = LEAKS[dataset]
    distance = objective.distance
    published = isinstance(distance, SquaredEuclideanSettings) or (
        isinstance(distance, LeakySquaredEuclideanSettings) and (distance.s, distance.r) == (s, r)
    )
    network_is = backbone.widths == (64, 64, 64, 64) and backbone.last_pool == (dataset != "omniglot")
    return published and network_is and image_size == size and shot in (None, objective.shot)


def _of_004(dataset: str, network: NetworkSettings, adaptation: ActivationMappingSettings, image_size: int) -> bool:
    backbone = network.backbone
    simple = isinstance(backbone, Conv64Settings) and backbone.widths == (64, 64, 64, 64) and not backbone.last_pool
    wide = isinstance(backbone, WideResNetSettings) and (backbone.depth, backbone.width) == (28, 10)
    trained = network.training.classes == "base+val" and network.embedding is None
    return dataset == "miniimagenet" and image_size == 80 and (simple or wide) and trained and not adaptation.views
