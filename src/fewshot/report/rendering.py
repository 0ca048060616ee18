"""Tables as files: csv for machines, Markdown for repositories, HTML that stands alone for people."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from fewshot.config import RunConfig
from fewshot.locks import replacing_folder
from fewshot.report.pages import render


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
    """A column; those of one `group` share a head.

    `numbers`: its cells are accuracies (two columns in csv); `right`: its words are figures, set to the right.
    """

    name: str
    group: str = ""
    numbers: bool = False
    right: bool = False

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

    @property
    def groups(self) -> list[tuple[str, list[int]]]:
        """Neighbouring columns of one group (empty: of none) with their numbers: the upper row of heads."""
        numbered = groupby(enumerate(self.columns), key=lambda pair: pair[1].group)
        return [(group, [number for number, _ in pairs]) for group, pairs in numbered]


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
    lines = [f"# {heading(config)}", ""]
    lines += [line for note in config.notes for line in (f"> {note}", ">")][:-1] + ([""] if config.notes else [])
    lines += [f"## {table.title}", ""]
    lines.append(_markdown_row([column.title for column in table.columns]))
    lines.append(_markdown_row(["--:" if column.numbers else ":--" for column in table.columns]))
    lines += [_markdown_row([_text(cell) for cell in row]) for row in table.rows]
    return "\n".join([*lines, "", table.caption, ""])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def heading(config: RunConfig) -> str:
    """The title of a run's pages."""
    return config.title or f"Run {config.run}"


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


# --- HTML ------------------------------------------------------------------------------------------------------------


def as_html(tables: Sequence[Table], config: RunConfig) -> str:
    """A page that needs no other file: title, notes, tables that sort; for light and dark screens, wide and narrow."""
    return render("tables.html.j2", title=heading(config), notes=config.notes, tables=tables)
