"""Which figures a run has, and what draws them.

A drawing is a rule of the pipeline and a function of `fewshot.stages` of the same name; its figures lie in
`results/<run>/figures/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fewshot.plan import Plan

DRAWING, PHOTOGRAPHS = ("svg", "csv"), ("png", "csv")
"""Endings of a figure's files: the picture, and the numbers that it shows. The latter show images of the data set."""

FIGURES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "draw_figures": dict.fromkeys(("accuracy_by_shot", "published_vs_measured", "paired_gains", "training_curves"), DRAWING),
    "draw_activation_maps": {"activation_maps": PHOTOGRAPHS, "map_statistics": DRAWING},
    "draw_distance_figures": dict.fromkeys(("distance_histograms", "leak_sweep"), DRAWING),
    "draw_class_vectors": {"class_vectors": DRAWING},
    "draw_low_shot_figures": {
        **dict.fromkeys(("low_shot_accuracy", "embedding_size", "finetuning_curves"), DRAWING),
        "exemplars": PHOTOGRAPHS,
    },
}
"""Drawing -> its figures: name -> endings of its files."""


FROM_NETWORKS = ("activation_maps", "class_vectors")
"""Figures drawn from networks and images, not from the tables: the mark of the tables says nothing of them."""


def marks(plan: Plan) -> list[Path]:
    """Snakemake's marks that such figures are its own: it sets one after the drawing, and without it draws the figure anew."""
    return [plan.drawn_path(name) for name in figures(plan) if name in FROM_NETWORKS]


def drawings(plan: Plan) -> dict[str, Mapping[str, tuple[str, str]]]:
    """Drawing -> its figures (name -> endings of its files), of those that the run asks for."""
    config = plan.config
    wanted = {
        "draw_figures": True,
        "draw_activation_maps": config.activation_maps is not None,
        "draw_distance_figures": any(job.settings.distance is not None for job in plan.networks),  # trained on tasks
        "draw_class_vectors": config.class_vectors is not None,
        "draw_low_shot_figures": config.evaluation.way == "all",
    }
    return {name: figures for name, figures in FIGURES.items() if wanted[name]}


def dropped(plan: Plan) -> set[str]:
    """Figures that the run does not ask for: what its file asked for before is of no use beside the present tables."""
    return {name for one in FIGURES.values() for name in one} - set(figures(plan))


def figures(plan: Plan) -> dict[str, tuple[str, str]]:
    """The run's figures: name -> endings of its files."""
    return {name: endings for one in drawings(plan).values() for name, endings in one.items()}
