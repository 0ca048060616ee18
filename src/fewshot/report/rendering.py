"""Tables as files: csv for machines, Markdown for repositories, HTML that stands alone for people."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from fewshot.config import RunConfig
from fewshot.files import replacing_folder


@dataclass(frozen=True)
class Accuracy:
    """A number in percent and half its 95 % interval (None: not known)."""

    value: float
    ci95: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether the interval is known."""
        return self.ci95 is not None and not math.isnan(self.ci95)

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.ci95:.2f}" if self.has_interval else f"{self.value:.2f}"


class Difference(Accuracy):
    """A difference of two accuracies, in points: shown with its sign."""

    def __str__(self) -> str:
        return f"{self.value:+.2f} ± {self.ci95:.2f}" if self.has_interval else f"{self.value:+.2f}"


Cell = str | Accuracy | None


@dataclass(frozen=True)
class Column:
    """A column; those of one `group` share a head. `numbers`: its cells are accuracies (two columns in csv)."""

    name: str
    group: str = ""
    numbers: bool = False

    @property
    def title(self) -> str:
        """Head in csv and Markdown, where there is one line for it."""
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True)
class Table:
    """File name, head, what the reader must know, columns, rows; the last `reported` rows are not this run's."""

    name: str
    title: str
    caption: str
    columns: list[Column]
    rows: list[list[Cell]] = field(default_factory=list)
    reported: int = 0


def write_tables(folder: Path, config: RunConfig, tables: Sequence[Table]) -> None:
    """Write every table as <name>.csv, .md and .html, and index.html with all of them; the folder is replaced whole.

    Args:
        folder: such as results/<run>/tables.
        config: its title and notes stand at the head of every page.
        tables: in reading order.
    """
    with replacing_folder(folder) as new:
        for table in tables:
            (new / f"{table.name}.csv").write_text(as_csv(table), encoding="utf-8")
            (new / f"{table.name}.md").write_text(as_markdown(table, config), encoding="utf-8")
            (new / f"{table.name}.html").write_text(as_html([table], config), encoding="utf-8")
        (new / "index.html").write_text(as_html(tables, config), encoding="utf-8")


# --- csv and Markdown ------------------------------------------------------------------------------------------------


def as_csv(table: Table) -> str:
    """Comma-separated values; a column of accuracies takes two, the second ending in `ci95`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    titles = [[column.title, f"{column.title} ci95"] if column.numbers else [column.title] for column in table.columns]
    writer.writerow([title for pair in titles for title in pair])
    for row in table.rows:
        cells: list[str] = []
        for column, cell in zip(table.columns, row, strict=True):
            if not column.numbers:
                cells.append(str(cell or ""))
            elif isinstance(cell, Accuracy):
                cells += [f"{cell.value:.2f}", f"{cell.ci95:.2f}" if cell.has_interval else ""]
            else:
                cells += ["", ""]
        writer.writerow(cells)
    return out.getvalue()


def as_markdown(table: Table, config: RunConfig) -> str:
    """A Markdown page: the run's title and notes, the table, its caption."""
    lines = [f"# {_heading(config)}", ""]
    lines += [line for note in config.notes for line in (f"> {note}", ">")][:-1] + ([""] if config.notes else [])
    lines += [f"## {table.title}", ""]
    lines.append(_markdown_row([column.title for column in table.columns]))
    lines.append(_markdown_row(["--:" if column.numbers else ":--" for column in table.columns]))
    lines += [_markdown_row([_text(cell) for cell in row]) for row in table.rows]
    return "\n".join([*lines, "", table.caption, ""])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _heading(config: RunConfig) -> str:
    return config.title or f"Run {config.run}"


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


# --- HTML ------------------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --ink: #1d232b; --soft: #5a6675; --line: #d5dbe2; --page: #fff; --head: #eef2f6;
  --note: #fff6dd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #a2adbb; --line: #39424d; --page: #14181d; --head: #222932; --note: #3a3115; }
}
body { margin: 0 auto; padding: 1rem; max-width: 100rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.25; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.note { background: var(--note); border-radius: .3rem; padding: .5rem .75rem; margin: .5rem 0; }
.caption { color: var(--soft); font-size: .9rem; max-width: 50rem; }
.scroll { overflow: auto; max-height: 85vh; border: 1px solid var(--line); border-radius: .3rem; }
.scroll:focus-visible { outline: 2px solid #3b82c4; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; width: 100%; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead { position: sticky; top: 0; z-index: 1; } thead th { background: var(--head); white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; } tbody th { font-weight: 600; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.group { text-align: center; } .published, .reported { color: var(--soft); } .long { min-width: 18rem; }
.short { white-space: nowrap; }
.first-reported > * { border-top: 2px solid var(--line); }
@media (max-width: 40rem) { body { padding: .6rem; } th, td { padding: .3rem .4rem; } .long { min-width: 12rem; } }
"""


def as_html(tables: Sequence[Table], config: RunConfig) -> str:
    """A page that needs no other file: title, notes, tables; for light and dark screens, wide and narrow."""
    title = html.escape(_heading(config))
    notes = "\n".join(f'<p class="note">{html.escape(note)}</p>' for note in config.notes)
    body = "\n".join(_section(table) for table in tables)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{notes}\n{body}\n</body>\n</html>\n"
    )


def _section(table: Table) -> str:
    rows = []
    first_reported = len(table.rows) - table.reported
    for i, row in enumerate(table.rows):
        kind = ""
        if i >= first_reported:
            kind = ' class="reported first-reported"' if i == first_reported and i > 0 else ' class="reported"'
        cells = "".join(
            _cell(column, cell, first=not j) for j, (column, cell) in enumerate(zip(table.columns, row, strict=True))
        )
        rows.append(f"<tr{kind}>{cells}</tr>")
    title = html.escape(table.title)
    return (
        f'<section id="{table.name}">\n<h2>{title}</h2>\n'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">\n'
        f"<table>\n<thead>\n{_head(table.columns)}\n</thead>\n<tbody>\n"
        + "\n".join(rows)
        + f'\n</tbody>\n</table>\n</div>\n<p class="caption">{html.escape(table.caption)}</p>\n</section>'
    )


def _head(columns: Sequence[Column]) -> str:
    """One row of heads, or two where columns stand in groups."""
    if not any(column.group for column in columns):
        return (
            "<tr>" + "".join(f'<th scope="col"{_class(column)}>{html.escape(column.name)}</th>' for column in columns) + "</tr>"
        )
    upper, lower = [], []
    for group, members in groupby(columns, key=lambda column: column.group):
        inside = list(members)
        span = "" if group else ' rowspan="2"'
        names = [f'<th scope="col"{span}{_class(column)}>{html.escape(column.name)}</th>' for column in inside]
        if group:
            upper.append(f'<th scope="colgroup" colspan="{len(inside)}" class="group">{html.escape(group)}</th>')
            lower += names
        else:
            upper += names
    return f"<tr>{''.join(upper)}</tr>\n<tr>{''.join(lower)}</tr>"


def _class(column: Column, cell: Cell = None) -> str:
    names = ["number"] if column.numbers else []
    if column.name in ("published", "difference"):
        names.append("published")
    if isinstance(cell, str) and (len(cell) > 60 or len(cell) <= 12):
        names.append("long" if len(cell) > 60 else "short")
    return f' class="{" ".join(names)}"' if names else ""


def _cell(column: Column, cell: Cell, first: bool) -> str:
    text = html.escape(_text(cell))
    return f'<th scope="row"{_class(column, cell)}>{text}</th>' if first else f"<td{_class(column, cell)}>{text}</td>"
