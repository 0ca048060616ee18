"""The tables of docs/measured hold what the runs wrote: each value with its interval is one of docs/measured/results.

Whether it stands in the right row is for who writes the page; a table of one's own, pasted, does.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from fewshot.intervals import interval
from fewshot.report.published import PUBLISHED, load_published

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "measured"
RESULTS = PAGES / "results"
COMMAND = re.compile(r"^ {4}\S.*config/runs/(\w+)\.yaml")
PAIR = re.compile(r"([-+]?\d+(?:\.\d+)?) ± (\d+(?:\.\d+)?)")
DIGITS = 1e-4
"""The last digit that a run writes: what a page rounds may have been rounded before."""
STORED = {
    "000_table4_eighth_cpu": 69,
    "000_table5_fc100_cpu": 33,
    "000_table5_fc100_whole_dense_cpu": 16,
    "002_table1_miniimagenet_amx_cpu": 6,
    "002_table1_omniglot_nearest_cpu": 6,
    "002_table1_omniglot_whole_cpu": 12,
    "004_fc100_simple_cpu": 16,
    "004_fc100_simple_joint_cpu": 16,
    "004_miniimagenet_simple_cpu": 18,
    "004_miniimagenet_simple_joint_cpu": 16,
    "strong_fc100_resnet12_cpu": 24,
    "study_adam_fc100_cpu": 14,
    "study_seeds_fc100_cpu": 34,
    "study_implants_size_fc100_cpu": 26,
    "study_implants_size_miniimagenet_cpu": 26,
    "study_recipe_fc100_cpu": 27,
    "study_recipe_miniimagenet_cpu": 14,
}
"""Run -> how many pairs of value and interval the tables below its command have; a lost row is another number."""
REVERSED = {"004_fc100_simple_cpu", "004_miniimagenet_simple_cpu"}
"""Runs of which a page has differences the other way round: what is gained by that which the run file tests first."""

Pairs = list[tuple[float, float]]


def rows(page: Path) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """The lines of a page's tables: number, the runs of the last command above, text."""
    runs: tuple[str, ...] = ()
    before = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        command = COMMAND.match(line)
        if command:
            runs = (*runs, command[1]) if before else (command[1],)
        before = command is not None
        if line.startswith("|"):
            yield number, runs, line


@cache
def numbers(run: str) -> Pairs:
    """Every accuracy and paired difference of a run with its interval over tasks, and over seeds where it has several."""
    summary, paired = (pd.read_csv(RESULTS / run / name) for name in ("summary.csv", "paired.csv"))
    found = list(zip(summary["accuracy"], summary["ci95"], strict=True))
    differences = [paired]
    if (RESULTS / run / "map_statistics.csv").exists():
        maps = pd.read_csv(RESULTS / run / "map_statistics.csv")
        differences += [maps, 100 * maps[["difference", "ci95"]]]
    for table in differences:
        pairs = list(zip(table["difference"], table["ci95"], strict=True))
        found += pairs + [(-value, ci95) for value, ci95 in pairs if run in REVERSED]
    if (RESULTS / run / "seeds.csv").exists():
        seeds = pd.read_csv(RESULTS / run / "seeds.csv")
        found += zip(seeds["accuracy"], seeds["ci95_seeds"], strict=True)
        places = [name for name in paired.columns if name not in ("seed", "difference", "ci95", "excludes_zero")]
        found += [interval(group.to_numpy()) for _, group in paired.groupby(places)["difference"]]
    return found


@cache
def published() -> Pairs:
    table = load_published(ROOT / PUBLISHED).dropna(subset="ci95")
    return list(zip(table["value"], table["ci95"], strict=True))


def is_rounded(printed: str, value: float) -> bool:
    return abs(float(printed) - value) <= 0.5 * 10.0 ** -len(printed.partition(".")[2]) + DIGITS


def is_one_of(value: str, ci95: str, known: Pairs) -> bool:
    return any(is_rounded(value, one) and is_rounded(ci95, its) for one, its in known)


def test_every_kept_run_is_held_against_the_pages() -> None:
    assert sorted(path.name for path in RESULTS.iterdir()) == sorted(STORED)


@pytest.mark.parametrize("run", STORED)
def test_tables_hold_what_the_run_wrote(run: str) -> None:
    checked, strange = 0, []
    for page in sorted(PAGES.glob("*.md")):
        for number, runs, line in rows(page):
            if run not in runs:
                continue
            assert set(runs) <= set(STORED), f"{page.name}:{number}: below a command of a run that is not kept"
            for value, ci95 in PAIR.findall(line):
                checked += is_one_of(value, ci95, numbers(run))
                if not any(is_one_of(value, ci95, known) for known in (*map(numbers, runs), published())):
                    strange.append(f"{page.name}:{number}: {value} ± {ci95}")
    assert strange == []
    assert checked == STORED[run]


@pytest.mark.parametrize(
    ("value", "ci95", "found"),
    [
        ("41.58", "0.16", True), ("41.59", "0.16", False), ("41.58", "0.15", False), ("-1.57", "0.09", True),
        ("+1.57", "0.09", False),
    ],
)  # fmt: skip
def test_a_changed_digit_or_sign_is_seen(value: str, ci95: str, found: bool) -> None:
    assert is_one_of(value, ci95, numbers("000_table5_fc100_cpu")) == found


def test_the_readme_repeats_what_the_pages_say() -> None:
    """Each value with its interval in its table of results stands on the page that the row, or one above it, links."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What it has measured so far")[2].splitlines()
    page, checked, strange = "", 0, []
    for line in (line for line in lines[: lines.index("## Two commands")] if line.startswith("|")):
        linked = re.search(r"docs/measured/(\w+\.md)", line)
        page = (PAGES / linked[1]).read_text(encoding="utf-8") if linked else page
        pairs = [f"{value} ± {ci95}" for value, ci95 in PAIR.findall(line)]
        checked += len(pairs)
        strange += [pair for pair in pairs if pair not in page]
    assert strange == []
    assert checked == 24
