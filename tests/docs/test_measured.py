"""The tables of docs/measured hold what the runs wrote: the pages' numbers against docs/measured/results, cell by cell."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from fewshot.report.published import PUBLISHED, load_published

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "measured"
RESULTS = PAGES / "results"
COMMAND = re.compile(r"^ {4}\S.*config/runs/(\w+)\.yaml")
PAIR = re.compile(r"([-+]?\d+\.(\d+)) ± (\d+\.\d+)")
DIGITS = 1e-4
"""The last digit that a run writes: what a page rounds may have been rounded before."""


def rows(page: Path) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """The lines of a page's tables: number, the runs of the command that stands above, text."""
    runs: tuple[str, ...] = ()
    before = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        command = COMMAND.match(line)
        if command:
            runs = (*runs, command[1]) if before else (command[1],)
        before = command is not None
        if line.startswith("|"):
            yield number, runs, line


def numbers(run: str) -> list[tuple[float, float]]:
    """Every accuracy and paired difference of a run with its interval, in percent; differences in both directions."""
    summary, paired = (pd.read_csv(RESULTS / run / name) for name in ("summary.csv", "paired.csv"))
    found = list(zip(summary["accuracy"], summary["ci95"], strict=True))
    differences = [paired]
    if (RESULTS / run / "map_statistics.csv").exists():
        maps = pd.read_csv(RESULTS / run / "map_statistics.csv")
        differences += [maps, 100 * maps[["difference", "ci95"]]]
    for table in differences:
        for value, ci95 in zip(table["difference"], table["ci95"], strict=True):
            found += [(value, ci95), (-value, ci95)]
    return found


def is_rounded(printed: str, value: float) -> bool:
    return abs(float(printed) - value) <= 0.5 * 10.0 ** -len(printed.partition(".")[2]) + DIGITS


def is_one_of(value: str, ci95: str, known: list[tuple[float, float]]) -> bool:
    return any(is_rounded(value, one) and is_rounded(ci95, its) for one, its in known)


STORED = sorted(path.name for path in RESULTS.iterdir())


@pytest.fixture(scope="module")
def published() -> list[tuple[float, float]]:
    table = load_published(ROOT / PUBLISHED).dropna(subset="ci95")
    return list(zip(table["value"], table["ci95"], strict=True))


@pytest.mark.parametrize("run", STORED)
def test_tables_hold_what_the_run_wrote(run: str, published: list[tuple[float, float]]) -> None:
    """Of tables below commands all of whose runs are kept; a pair of value and interval is theirs, or a published one."""
    checked, strange = 0, []
    for page in sorted(PAGES.glob("*.md")):
        for number, runs, line in rows(page):
            if run not in runs or not set(runs) <= set(STORED):
                continue
            own = numbers(run)
            known = [pair for one in runs for pair in numbers(one)]
            for value, _, ci95 in PAIR.findall(line):
                checked += is_one_of(value, ci95, own)
                if not is_one_of(value, ci95, known + published):
                    strange.append(f"{page.name}:{number}: {value} ± {ci95}")
    assert strange == []
    assert checked >= len(pd.read_csv(RESULTS / run / "summary.csv")) // 4, "its numbers stand on no page"


def test_a_changed_digit_is_seen() -> None:
    own = numbers("000_table5_fc100_cpu")
    assert is_one_of("41.58", "0.16", own)
    assert not is_one_of("41.59", "0.16", own)
    assert not is_one_of("41.58", "0.15", own)
