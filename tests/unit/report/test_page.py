"""The report page: what it holds, and what stops it. How it looks is tested in a browser (tests/browser)."""

import base64
import re
from html.parser import HTMLParser

import pytest

from fewshot import stages
from fewshot.errors import DataError
from fewshot.provenance import git_revision
from fewshot.report.page import write_report

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: dict[str, int] = {}
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.ids += [value for name, value in attrs if name == "id"]
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "path", "rect"):
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.fixture
def made_page(made_run):
    def make(**changes):
        plan = made_run(**changes)
        stages.assemble(plan)
        stages.draw_figures(plan)
        folder = plan.results / "figures"
        (folder / "activation_maps.png").write_bytes(PIXEL)
        (folder / "map_statistics.svg").write_text("<svg/>")
        (folder / "map_statistics.csv").write_text("case,images\nbase,3\n")
        write_report(plan)
        return plan, (plan.results / "report.html").read_text()

    return make


def test_the_page_holds_what_was_run_and_what_came_out(made_page) -> None:
    plan, text = made_page()
    page = _Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {"results", "published", "paired", "training", "maps", "deviations", "jobs", "origin"} <= set(page.ids)
    assert all(address.startswith(("data:", "#")) for address in page.addresses), "nothing is fetched"
    assert all(address[1:] in page.ids for address in page.addresses if address.startswith("#"))
    assert page.tags["img"] == 6
    assert "No number here was &lt;measured&gt;." in text
    assert "4 base, 2 validation, 6 test" in text
    assert "104 of 32 px, 4 held out of training" in text
    assert "CPU (made up, 2 cores)" in text
    assert "<dt>revision, networks</dt><dd>of-small-gap, of-r12-gap, of-r12-dense</dd>" in text
    assert f"<dt>revision, this page</dt><dd>{git_revision()}</dd>" in text
    assert "numbers made up" in text
    assert "mind its terms before you pass this file on" in text
    summary = base64.b64encode((plan.results / "summary.csv").read_bytes()).decode()
    assert f'download="made-summary.csv" href="data:text/csv;base64,{summary}"' in text


def test_published_stands_beside_measured_with_the_difference(made_page) -> None:
    _, text = made_page()
    section = text[text.index('<section id="published">') : text.index('<section id="paired">')]
    row = next(row for row in section.split("<tr") if "ResNet-12 GAP, GAP/GAP" in row and "5-shot" in row)
    measured, published, difference = (float(value) for value in re.findall(r'data-value="([^"]+)"', row))
    assert published == 56.63
    assert difference == pytest.approx(measured - published)
    assert "paper 000, Table 5" in row


def test_a_run_without_published_numbers_says_so(made_page) -> None:
    dataset = {"name": "glyphs", "classes": 12}
    _, text = made_page(dataset=dataset, activation_maps=None)
    page = _Page(text)
    assert "Nothing is published for the settings of this run" in text
    assert "maps" not in page.ids
    assert page.tags["img"] == 3
    assert "mind its terms" not in text


@pytest.mark.parametrize(("seeds", "over", "other"), [([0], "over tasks", "seeds"), ([0, 1], "over 2 seeds", "narrower")])
def test_the_page_says_what_its_intervals_are_over(made_page, seeds, over, other) -> None:
    _, text = made_page(seeds=seeds)
    assert f"with half their 95 % interval {over} (Student's t)" in text
    assert (
        f"<figcaption>Accuracy on novel classes by the number of support images a class, with the 95 % interval {over}." in text
    )
    paired = text[text.index('<section id="paired">') : text.index('<section id="training">')]
    assert other not in paired.partition("<h3")[0].partition("<figure")[0]
    assert "much narrower" not in text


def test_the_caption_of_activation_maps_names_the_networks_and_the_prototypes(made_page) -> None:
    _, text = made_page(activation_maps={"networks": ["r12-dense", "small-gap"], "shot": 1})
    assert "by the network r12-dense and by small-gap, in this order" in text
    assert "prototypes of one image a class" in text


def test_the_same_files_give_the_same_page(made_page) -> None:
    plan, text = made_page()
    write_report(plan)
    assert (plan.results / "report.html").read_text() == text


def test_a_missing_figure_is_one_line_and_leaves_the_old_page(made_page) -> None:
    plan, text = made_page()
    (plan.results / "figures" / "paired_gains.svg").unlink()
    with pytest.raises(DataError, match=r"paired_gains\.svg: missing; make tables and figures again"):
        write_report(plan)
    assert (plan.results / "report.html").read_text() == text


def test_a_table_edited_by_hand_does_not_reach_the_page(made_page) -> None:
    plan, text = made_page()
    for name in ("summary.csv", "paired.csv", "seeds.csv"):
        (plan.results / name).write_text("accuracy\n99.99\n")
    write_report(plan)
    assert (plan.results / "report.html").read_text() == text
