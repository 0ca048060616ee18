"""The page of `fewshot classify` in the browser."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fewshot.cli import app
from fewshot.data.store import open_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_file(run_folder, tmp_path_factory):
    """Drawn images as loose files, classified by the network of the run."""
    folder = tmp_path_factory.mktemp("photos")
    (images,) = run_folder.glob("resources/*/images")
    (model,) = run_folder.glob("resources/*/networks/dense-*/seed0")
    store = open_store(images)
    rows = store.rows("test")
    for label in np.unique(store.labels[rows])[:3]:
        for i, row in enumerate(rows[store.labels[rows] == label][:6]):
            place = folder / ("known" if i < 2 else "new") / f"glyph-{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(store.images[row])).save(place / f"{i}.png")
    (folder / "new" / "notes.txt").write_text("no image")
    options = ["--model", str(model), "--support", str(folder / "known"), "--query", str(folder / "new"), "--device", "cpu"]
    done = CliRunner().invoke(app, ["classify", *options, "--out", str(folder / "out")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "out" / "index.html"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_is_whole_and_readable(look, page_file, width, scheme):
    seen = look(page_file, width, scheme)
    assert seen.errors == []
    assert [url for url in seen.fetched if not url.startswith("data:")] == [page_file.resolve().as_uri()]
    assert seen.violations() == []
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("article").count() == 3 * 4
    widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(widths) == 3 * 3 * 4
    assert min(widths) > 0
    assert page.locator(".support").count() == 3 * 3 * 4
