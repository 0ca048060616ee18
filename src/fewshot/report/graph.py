"""The run's jobs as a graph: which arrows of the pipeline it takes, how many jobs each has, and where each box stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewshot.drawings import drawings
from fewshot.plan import Plan

NEEDS: Mapping[str, tuple[str, ...]] = {
    "prepare": (),
    "draw_episodes": ("prepare",),
    "train": ("prepare",),
    "extract": ("train",),
    "adapt": ("train", "draw_episodes"),
    "extend": ("extract", "draw_episodes"),
    "draw_activation_maps": ("train",),
    "evaluate": ("extract", "draw_episodes", "adapt", "extend"),
    "assemble": ("evaluate",),
    "draw_figures": ("assemble",),
    "draw_low_shot_figures": ("assemble",),
    "draw_distance_figures": ("assemble",),
    "draw_class_vectors": ("train",),
    "write_report": (
        "assemble",
        "draw_figures",
        "draw_activation_maps",
        "draw_low_shot_figures",
        "draw_distance_figures",
        "draw_class_vectors",
    ),
}
"""Rule -> the rules whose files it reads, without those that these read in their turn. A test holds it against Snakemake's."""

WIDTH, HEIGHT, ACROSS, DOWN = 172, 46, 214, 74
"""Of a box, and from one to the next, in pixels."""


@dataclass(frozen=True)
class Box:
    """A rule, its number of jobs, and the upper left corner of its box in pixels."""

    rule: str
    jobs: int
    x: int
    y: int


@dataclass(frozen=True)
class Graph:
    """Boxes of the size `box` and arrows (SVG paths) within `width` x `height` pixels; `words`: the same in a sentence."""

    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    width: int
    height: int
    box: tuple[int, int]
    words: str


def counts(plan: Plan) -> dict[str, int]:
    """Rule -> its jobs in this run, without the mirror in MLflow; rules without jobs are left out."""
    jobs = {
        "prepare": 1,
        "draw_episodes": len({shot for job in plan.evaluations for shot in job.shots}),
        "train": len(plan.networks),
        "extract": sum(len(plan.feature_parts(job)) for job in plan.networks),
        "adapt": sum(job.settings.gives == "features" for job in plan.adaptations),
        "extend": sum(job.settings.gives == "classifier" for job in plan.adaptations),
        "evaluate": len(plan.evaluations),
        "assemble": 1,
        **dict.fromkeys(drawings(plan), 1),
        "write_report": 1,
    }
    return {rule: count for rule, count in jobs.items() if count}


def needs(plan: Plan) -> dict[str, list[str]]:
    """Rule -> the rules of this run that it reads from, without those that others of them imply."""
    found = counts(plan)

    def above(rule: str) -> set[str]:
        return {higher for need in NEEDS[rule] if need in found for higher in (need, *above(need))}

    direct = {rule: [need for need in NEEDS[rule] if need in found] for rule in found}
    return {rule: [need for need in own if not any(need in above(other) for other in own)] for rule, own in direct.items()}


def graph(plan: Plan) -> Graph:
    """Boxes in columns, each to the right of all that it needs; in the middle of the height where a column has few."""
    found, read = counts(plan), needs(plan)
    column: dict[str, int] = {}
    for rule in found:
        column[rule] = max((column[need] + 1 for need in read[rule]), default=0)
    columns = [[rule for rule in found if column[rule] == number] for number in range(max(column.values()) + 1)]
    tallest = max(map(len, columns))
    places = {
        rule: (number * ACROSS, round((tallest - len(rules)) * DOWN / 2) + i * DOWN)
        for number, rules in enumerate(columns)
        for i, rule in enumerate(rules)
    }
    arrows, lowest = [], (tallest - 1) * DOWN + HEIGHT
    for rule in found:
        for need in read[rule]:
            between = [places[other] for other in found if column[need] < column[other] < column[rule]]
            arrow, lane = _arrow(places[need], places[rule], between)
            arrows.append(arrow)
            lowest = max(lowest, lane + 2)
    words = "The jobs of the run by rule: " + ", ".join(f"{rule} ({count})" for rule, count in found.items())
    return Graph(
        tuple(Box(rule, count, *places[rule]) for rule, count in found.items()), tuple(arrows),
        (len(columns) - 1) * ACROSS + WIDTH, lowest, (WIDTH, HEIGHT), words,
    )  # fmt: skip


def _arrow(start: tuple[int, int], end: tuple[int, int], between: Sequence[tuple[int, int]]) -> tuple[str, int]:
    """An arrow from box to box that touches none of those `between` their columns, and the height at which it passes them.

    Of the heights beside and between the rows of boxes it takes the one that is the least way round.
    """
    (x0, y0), (x1, y1) = (start[0] + WIDTH, start[1] + HEIGHT // 2), (end[0] - 5, end[1] + HEIGHT // 2)
    bend = ACROSS - WIDTH
    if not between:
        return f"M{x0} {y0}C{x0 + bend} {y0} {x1 - bend} {y1} {x1} {y1}", max(y0, y1)
    middles = [y + HEIGHT // 2 for _, y in between]
    lanes = {y0, y1, *(middle + side * DOWN // 2 for middle in middles for side in (-1, 1))}
    free = [y for y in sorted(lanes) if y >= 0 and all(abs(y - middle) > HEIGHT // 2 + 4 for middle in middles)]
    lane = min(free, key=lambda y: abs(y - y0) + abs(y - y1))
    first, last = min(x for x, _ in between), max(x for x, _ in between) + WIDTH
    curve = f"M{x0} {y0}C{x0 + bend // 2} {y0} {first - bend // 2} {lane} {first} {lane}H{last}"
    return f"{curve}C{last + bend // 2} {lane} {x1 - bend // 2} {y1} {x1} {y1}", lane
