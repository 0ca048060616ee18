"""Tables as files."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

from fewshot.config import RunConfig, parse
from fewshot.report.rendering import Accuracy, Column, Difference, Table, as_csv, as_html, as_markdown, write_tables

TABLE = Table(
    "small", "A small table", "What <it> means.",
    [Column("method"), Column("measured", "1-shot", numbers=True), Column("published", "1-shot", numbers=True)],
    [["GAP | more", Accuracy(50.126, 0.5), None], ["P>M>F", None, Accuracy(60, math.nan)]],
    reported=1,
)  # fmt: skip


def config() -> RunConfig:
    network = {"backbone": {"name": "c128f"}}
    return parse(
        {
            "run": "small", "title": "Drawn & quick", "notes": ["A demonstration.", "Not <real>."],
            "dataset": {"name": "glyphs"},
            "stage1": {"networks": {"a": network}}, "evaluation": {"tests": [{"networks": ["a"]}]},
        }
    )  # fmt: skip


def test_csv() -> None:
    assert as_csv(TABLE).splitlines() == [
        "method,1-shot measured,1-shot measured ci95,1-shot published,1-shot published ci95",
        "GAP | more,50.13,0.50,,",
        "P>M>F,,,60.00,",
    ]


def test_markdown() -> None:
    assert as_markdown(TABLE, config()).splitlines() == [
        "# Drawn & quick", "", "> A demonstration.", ">", "> Not <real>.", "", "## A small table", "",
        "| method | 1-shot measured | 1-shot published |", "| :-- | --: | --: |",
        "| GAP \\| more | 50.13 ± 0.50 |  |", "| P>M>F |  | 60.00 |", "", "What <it> means.",
    ]  # fmt: skip


class _Structure(HTMLParser):
    """Checks that every tag that opens is closed, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.counts: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag != "meta":
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_html_stands_alone() -> None:
    page = as_html([TABLE, TABLE], config())
    parser = _Structure()
    parser.feed(page)
    assert parser.stack == []
    assert parser.counts["table"] == 2
    assert parser.counts["tr"] == 2 * 4  # two head rows, two rows
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert "position: sticky" in page


def test_html_head_and_escapes() -> None:
    page = as_html([TABLE], config())
    title, note, table = page.index("<h1>Drawn &amp; quick</h1>"), page.index("Not &lt;real&gt;."), page.index("<table ")
    assert title < note < table
    assert "P&gt;M&gt;F" in page
    assert '<th scope="colgroup" colspan="2" class="group">1-shot</th>' in page
    assert '<th scope="col" data-column="0" rowspan="2">method</th>' in page


def test_html_says_which_column_a_head_sorts_and_by_which_number() -> None:
    page = as_html([TABLE], config())
    heads = re.findall(r'data-column="(\d)"[^>]*>(\w+)<', page)
    assert heads == [("0", "method"), ("1", "measured"), ("2", "published")]
    assert 'data-value="50.126">50.13 ± 0.50</td>' in page
    assert '<tr class="reported first-reported"><th scope="row" class="short">P' in page


def test_a_difference_shows_its_sign() -> None:
    assert str(Difference(0.394, 0.08)) == "+0.39 ± 0.08"
    assert str(Difference(-1.2)) == "-1.20"


def test_the_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "of_yesterday.html").write_text("old")
    write_tables(folder, config(), [TABLE])
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "small.csv", "small.html", "small.md"]
    assert (folder / "small.md").read_text() == as_markdown(TABLE, config())


def test_accuracy_in_words() -> None:
    assert str(Accuracy(62.534, 0.19)) == "62.53 ± 0.19"
    assert str(Accuracy(58.5)) == "58.50"
