"""How activation maps are drawn: over their images, and in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from fewshot.report.drawing import legend, looks, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """An image and maps, each to be laid over what its network saw of it.

    Attributes:
        image: uint8 (S, S, 3).
        seen: for each map, the part of the image that it covers, uint8 (s, s, 3).
        maps: probabilities, each (h, w).
        titles: of the image and of each overlay.
    """

    image: npt.NDArray[np.uint8]
    seen: Sequence[npt.NDArray[np.uint8]]
    maps: Sequence[npt.NDArray[np.float32]]
    titles: Sequence[str]


def activation_maps(cases: Mapping[str, Sequence[Panel]], images_per_case: int, title: str) -> Figure:
    """Rows: cases, two images side by side; an image is followed by its overlays. A case without images says so.

    Args:
        cases: words -> panels of two maps each.
        images_per_case: room for each case.
        title: of the figure.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    lines, across = -(-images_per_case // 2), min(images_per_case, 2)
    widths = [1, 1, 1, 0.15, 1, 1, 1][: 4 * across - 1]  # a gap between the two images of a line
    figure, axes = plt.subplots(
        len(cases) * lines, len(widths), figsize=(1.5 * sum(widths) + 1.4, 1.75 * len(cases) * lines + 0.5), squeeze=False,
        width_ratios=widths, layout="constrained",
    )  # fmt: skip
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.set_frame_on(False)
    for number, (words, panels) in enumerate(cases.items()):
        ax = axes[number * lines, 0]
        ax.set_ylabel(words.replace(", ", ",\n", 1), fontsize=9)
        if not panels:
            note = ax.text(0.05, 0.5, "no image of this case was found", transform=ax.transAxes, va="center", color="0.35")
            note.set_in_layout(False)  # it may run over its neighbours, which are empty
        for i, panel in enumerate(panels):
            first = 4 * (i % 2)
            _draw_panel(list(axes[number * lines + i // 2, first : first + 3]), panel)
    bar = ScalarMappable(Normalize(0, 1), "turbo")
    figure.colorbar(bar, ax=axes, shrink=0.4, aspect=30, label="probability of the true class")
    figure.suptitle(title)
    return figure


MAP_MEASURES = {
    "probability": "probability of the true class",
    "roughness": "difference between neighbours",
    "relative_roughness": "relative to any two locations",
    "located": "locations that find the class (%)",
}
"""Measures of activation maps, and the titles of their panels."""


def map_statistics(table: pd.DataFrame, title: str) -> Figure:
    """Two networks' activation maps in numbers, a panel a measure and a line a case; says so where no image was judged."""
    import matplotlib.pyplot as plt

    sizes = table.groupby("case", sort=False)["images"].max()
    cases = list(sizes.index)
    figure, axes = plt.subplots(1, len(MAP_MEASURES), figsize=(12, 1.6 + 0.35 * len(cases)), sharey=True, layout="constrained")
    for ax, (measure, words) in zip(axes, MAP_MEASURES.items(), strict=True):
        rows = table[table["measure"] == measure]
        if rows.empty:
            say(ax, "nothing to measure")
            continue
        places = [len(cases) - 1 - cases.index(case) for case in rows["case"]]
        ax.hlines(places, rows["first"], rows["second"], color="0.6", linewidth=1.5, zorder=1)
        for column, look in looks(["first", "second"]).items():
            name = rows[f"{column}_network"].iloc[0]
            ax.plot(rows[column], places, color=look.colour, marker=look.marker, linestyle="none", label=name)
        furthest = max(rows["first"].max(), rows["second"].max())
        ax.set(xlabel=words, xlim=(0, 1.08 * furthest or 1), ylim=(-0.7, len(cases) - 0.3))
        ax.set_yticks(range(len(cases)), [f"{case} ({sizes[case]:,})" for case in cases[::-1]])
        ax.grid(visible=False, axis="y")
    legend(figure, axes[0].get_legend_handles_labels()[0])
    figure.suptitle(title)
    return figure


def _draw_panel(axes: Sequence[Axes], panel: Panel) -> None:
    images = (panel.image, *panel.seen)
    for ax, image, values, words in zip(axes, images, (None, *panel.maps), panel.titles, strict=True):
        if values is None:
            ax.imshow(image)
        else:  # over grey, so that every colour is the map's
            ax.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=255)
            ax.imshow(upsample(values, len(image)), cmap="turbo", vmin=0, vmax=1, alpha=0.5, interpolation="bilinear")
        ax.set_title(words if len(words) <= 20 else f"{words[:19]}…", fontsize=8, pad=3)


def upsample(values: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """A map (h, w) to (size, size) pixels: bilinear between the centres of its cells, constant outside them."""
    for axis in (0, 1):
        count = values.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        low = np.minimum(places.astype(int), max(count - 2, 0))
        share = (places - low).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        high = np.minimum(low + 1, count - 1)
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values
