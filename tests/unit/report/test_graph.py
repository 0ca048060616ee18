"""The drawn graph against the rules' own inputs."""

import re
from pathlib import Path

import pytest

from fewshot.config import load, parse
from fewshot.plan import Plan
from fewshot.report.graph import ACROSS, DOWN, graph, needs

ROOT = Path(__file__).parents[3]


def test_boxes_stand_right_of_what_they_need_and_apart(made_run) -> None:
    drawn = graph(made_run())
    places = {box.rule: (box.x, box.y) for box in drawn.boxes}
    assert len(set(places.values())) == len(places)
    assert places["prepare"][0] == 0 < places["train"][0] < places["adapt"][0] < places["evaluate"][0]
    assert max(x for x, _ in places.values()) + drawn.box[0] == drawn.width
    assert max(y for _, y in places.values()) + drawn.box[1] <= drawn.height
    columns = [x for x, _ in places.values()]
    assert all(x % ACROSS == 0 for x in columns)
    assert drawn.box[1] < DOWN


@pytest.mark.parametrize(
    "run", [ROOT / "config" / "config.yaml", *sorted((ROOT / "config" / "runs").glob("*.yaml"))], ids=lambda path: path.stem
)
def test_no_arrow_passes_behind_a_box(run) -> None:
    """Points along every arrow, its ends apart, lie in no box."""
    drawn = graph(Plan(load(run)))
    for arrow in drawn.arrows:
        points = along(arrow)
        for box in drawn.boxes:
            inside = [(x, y) for x, y in points[1:] if box.x < x < box.x + drawn.box[0] and box.y < y < box.y + drawn.box[1]]
            assert not inside, (box.rule, arrow)
        assert all(0 <= x <= drawn.width and 0 <= y <= drawn.height for x, y in points)


def along(path: str) -> list[tuple[float, float]]:
    """Points of an SVG path of M, C and H."""
    points: list[tuple[float, float]] = []
    for letter, words in re.findall(r"([MCH])([\d. -]+)", path):
        numbers = [float(word) for word in words.split()]
        if letter == "M":
            points.append((numbers[0], numbers[1]))
            continue
        start = points[-1]
        end = (numbers[0], start[1]) if letter == "H" else (numbers[4], numbers[5])
        bends = [start, end] if letter == "H" else [tuple(numbers[:2]), tuple(numbers[2:4])]
        for step in range(1, 41):
            t = step / 40
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            corners = (start, *bends, end)
            points.append(tuple(sum(w * c[i] for w, c in zip(weights, corners, strict=True)) for i in (0, 1)))
    return points


def test_the_number_of_jobs_is_the_plans(made_run) -> None:
    plan = made_run()
    jobs = {box.rule: box.jobs for box in graph(plan).boxes}
    assert (jobs["train"], jobs["adapt"], jobs["evaluate"]) == (3, 1, 4)
    assert "train (3)" in graph(plan).words


def test_without_adaptations_the_tasks_go_straight_to_the_evaluation(made_run) -> None:
    config = made_run().config.as_dict()
    assert "draw_episodes" not in needs(Plan(parse(config)))["evaluate"]
    config["evaluation"]["tests"] = config["evaluation"]["tests"][:1]
    plan = Plan(parse({**config, "activation_maps": None}))
    assert needs(plan)["evaluate"] == ["extract", "draw_episodes"]
    assert (needs(plan)["write_report"], needs(plan)["draw_figures"]) == (["draw_figures"], ["assemble"])


@pytest.mark.parametrize(
    "run", ["config.yaml", "runs/002_table1_omniglot_cpu.yaml", "runs/001_cub_50_cpu.yaml", "runs/004_fc100_cpu.yaml"]
)
def test_the_arrows_are_those_of_snakemake(run, tmp_path, plan_with_snakemake) -> None:
    """Snakemake's graph of rules, without what others imply, the last target and the mirror in MLflow."""
    plan = Plan(load(ROOT / "config" / run))
    for name in ("config", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)
    asked = ("--snakefile", str(ROOT / "Snakefile"), "--rulegraph", "--configfile", f"config/{run}", "--", "results_only")
    done = plan_with_snakemake(tmp_path, *asked)
    assert done.returncode == 0, done.stderr
    names = dict(re.findall(r'^\s*(\d+)\s*\[\s*label\s*=\s*"(\w+)', done.stdout, re.MULTILINE))
    pairs = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", done.stdout)}
    read = {name: {a for a, b in pairs if b == name} for name in names.values() if name != "results_only"}

    def above(rule: str) -> set[str]:
        return {higher for need in read[rule] for higher in (need, *above(need))}

    least = {rule: {n for n in own if not any(n in above(other) for other in own)} for rule, own in read.items()}
    assert {rule: set(own) for rule, own in needs(plan).items()} == least
