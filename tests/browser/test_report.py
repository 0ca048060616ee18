"""The report page of a run, as people meet it: on a screen, in the dark, on a phone, with a keyboard."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(run_folder):
    return run_folder / "results" / "tiny" / "report.html"


SCREENS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_page_is_without_errors_and_fetches_nothing(look, report, width, scheme):
    seen = look(report, width, scheme)
    assert seen.errors == []
    assert [url for url in seen.fetched if not url.startswith("data:")] == [report.resolve().as_uri()]


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_contrast_names_and_roles(look, report, width, scheme):
    seen = look(report, width, scheme)
    seen.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert seen.violations() == []


def test_every_figure_is_drawn(look, report):
    page = look(report).page
    drawn = page.evaluate("[...document.images].map((image) => [image.alt.split('.')[0], image.naturalWidth])")
    titles = {title for title, _ in drawn}
    maps = {"Class activation maps", "Activation maps in numbers"}
    assert titles == {"Accuracy by shots", "Paired gains", "Training curves"} | maps
    assert all(width > 300 for _, width in drawn)
    boxes = page.locator("svg.graph g").all()
    assert boxes[0].locator("text").first.text_content() == "prepare"
    assert len(boxes) == 10
    for box in boxes:  # the words fit into their boxes
        inside, outside = box.locator("text").first.bounding_box(), box.locator("rect").bounding_box()
        assert outside["x"] < inside["x"]
        assert inside["x"] + inside["width"] < outside["x"] + outside["width"]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_no_wider_than_the_screen(look, report, width):
    page = look(report, width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("meta[name=viewport]").count() == 1


def test_tables_sort_by_keyboard(look, report):
    page = look(report).page
    table = page.get_by_role("region", name="Accuracy on novel classes").locator("table")
    head = table.locator("thead th[data-column]").filter(has_text="measured").first
    column = int(head.get_attribute("data-column"))

    def values():
        cells = [row.locator("td, th").nth(column) for row in table.locator("tbody tr").all()]
        return [value for cell in cells if (value := cell.get_attribute("data-value"))]

    given = values()
    assert len(given) >= 2
    head.get_by_role("button").focus()
    assert head.evaluate("(head) => head.querySelector('button') === document.activeElement")
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(value) for value in values()] == sorted(map(float, given))
    assert page.locator("[aria-live]").first.text_content() == "Sorted by measured, ascending."
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in values()] == sorted(map(float, given), reverse=True)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") is None
    assert values() == given


def test_every_sortable_head_is_reached_with_the_tabulator(look, report):
    page = look(report).page
    heads = page.locator("main table:visible thead th[data-column]").count()
    reached = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        told = page.evaluate(
            """() => { const head = document.activeElement.closest('th');
            return head && [...document.querySelectorAll('th')].indexOf(head); }"""
        )
        if told is not None:
            reached.add(told)
    assert len(reached) == heads > 20


def test_words_with_numbers_sort_by_their_numbers(look, report):
    page = look(report).page
    page.locator("summary").filter(has_text="All evaluated settings").click()
    table = page.get_by_role("region", name="All evaluated settings").locator("table")
    head = table.locator("thead th").filter(has_text="shots")
    column = int(head.get_attribute("data-column"))
    head.get_by_role("button").click()
    shots = [row.locator("td, th").nth(column).text_content() for row in table.locator("tbody tr").all()]
    assert shots == sorted(shots, key=lambda text: int(text.split("-")[0]))
    assert len(set(shots)) == 2


def test_the_tables_are_there_without_scripts(chromium, report):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.resolve().as_uri())
    assert page.locator("table").count() > 5
    assert page.locator("th button").count() == 0
    context.close()


def test_a_file_comes_out_of_the_page_as_it_went_in(look, report):
    page = look(report).page
    with page.expect_download() as download:
        page.get_by_role("link", name="summary.csv").click()
    assert download.value.suggested_filename == "tiny-summary.csv"
    assert download.value.path().read_bytes() == report.with_name("summary.csv").read_bytes()
