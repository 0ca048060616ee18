"""Published and measured tables of the pages on methods: `python docs/tables.py` writes them anew, `--check` only looks.

Between `<!-- published: paper=000; table=4,5 -->` and `<!-- end -->` stand the rows of config/published.csv with these values;
between `<!-- measured: fc100_cpu.md, <heading> -->` and `<!-- end -->` the first table of docs/measured/ under that heading.
So a number has one home, and a page that differs from it fails a test.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parent
PLACE = re.compile(r"(<!-- (published|measured): (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
POPULATIONS = {
    "novel": "novel", "base": "base", "both": "base and novel", "novel_in_all": "novel, among all", "all": "all, among all",
}  # fmt: skip


def published(words: str) -> str:
    """Rows that a method of this pipeline has, by shots."""
    table = pd.read_csv(DOCS.parent / "config" / "published.csv", dtype=str, keep_default_na=False)
    for part in words.split("; "):
        name, values = part.split("=")
        table = table[table[name].isin(values.split(","))]
    table = table[table["stage1"] != ""]
    table = table.assign(
        cell=[value + (f" ± {ci95}" if ci95 else "") for value, ci95 in zip(table["value"], table["ci95"], strict=True)],
        pair=[f"{s} / {q}" if s else "" for s, q in zip(table["support_pooling"], table["query_pooling"], strict=True)],
        judged=[POPULATIONS[name] for name in table["population"]],
    )
    heads = {
        "dataset": "Data set",
        "method": "Method",
        "backbone": "Backbone",
        "judged": "Classes",
        "pair": "Testing",
        "way": "Way",
    }
    columns = [name for name in heads if name in ("dataset", "method", "backbone") or len(set(table[name])) > 1]
    shots = sorted(set(table["shot"]), key=int)
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in table.to_dict("records"):
        rows.setdefault(tuple(row[name] for name in columns), {})[row["shot"]] = row["cell"]
    lines = [[*(heads[name] for name in columns), *(f"{shot}-shot" for shot in shots)], ["---"] * (len(columns) + len(shots))]
    lines += [[*row, *(cells.get(shot, "") for shot in shots)] for row, cells in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def measured(words: str) -> str:
    """A table of a page of docs/measured, and where it is from."""
    page, _, heading = words.partition(", ")
    text = (DOCS / "measured" / page).read_text(encoding="utf-8")
    _, found, below = text.partition(f"# {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    if not found or table is None:
        raise SystemExit(
            f"error: docs/measured/{page} has no table under the heading {heading!r}; correct the name on the page"
        )
    return f"From [measured/{page}](../measured/{page}), which says on what, how long and with what deviations:\n\n{table[0]}"


def filled(text: str) -> str:
    """A page with its tables as they should be."""
    made = {"published": published, "measured": measured}
    return PLACE.sub(lambda place: f"{place[1]}\n{made[place[2]](place[3])}\n{place[4]}", text)


def main(check: bool) -> None:
    """See the module."""
    for page in sorted((DOCS / "methods").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if filled(text) == text:
            continue
        if check:
            raise SystemExit(f"error: {page}: its tables are not those of their sources; run python docs/tables.py")
        page.write_text(filled(text), encoding="utf-8")


if __name__ == "__main__":
    main("--check" in sys.argv)
