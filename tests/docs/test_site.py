"""The documentation builds as a site without a warning, and holds every page and what the code says of itself."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        str(out / "trees"),
        str(DOCS),
        str(out / "html"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.mark.slow
def test_every_page_is_in_the_site_and_reached_from_its_front(site):
    front = (site / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert (site / name).is_file()
        assert name == "index.html" or f'href="{name}"' in front


@pytest.mark.slow
def test_the_reference_has_shapes_and_errors(site):
    text = re.sub(r"<[^>]+>", "", (site / "api" / "methods.html").read_text())
    assert "leave_one_out" in text
    assert "(T, n, r, e), n = way * shot, images of a class beside each other." in text
    assert "one shot a class, for which the leave-one-out loss is not defined" in text


def test_the_reference_has_every_module_once():
    """Of those that say more than what their package is."""
    files = [path.relative_to(ROOT / "src").with_suffix("") for path in (ROOT / "src" / "fewshot").rglob("*.py")]
    modules = {".".join(path.parts).removesuffix(".__init__") for path in files if path.name != "__main__"}
    empty = {"fewshot", *(f"fewshot.{name}" for name in ("config", "data", "methods", "models", "plan", "report"))}
    named = re.findall(
        r"^\.\. automodule:: (\S+)$", "".join(path.read_text() for path in (DOCS / "api").glob("*.rst")), re.MULTILINE
    )
    assert sorted(named) == sorted(modules - empty)


@pytest.mark.slow
def test_formulas_are_drawn_by_the_browser_itself(site):
    for page in (DOCS / "methods").glob("*.md"):
        formulas = len(re.findall(r"\$[^$\n]+\$", page.read_text()))
        text = (site / "methods" / page.with_suffix(".html").name).read_text()
        assert formulas == text.count("<math ") > 0
        assert not re.search(r"<script[^>]+https?:", text)
        assert "merror" not in text


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md", *DOCS.rglob("*.md")])
def test_links_between_files_lead_somewhere(page):
    text = re.sub(r"```.*?```|\$[^$\n]+\$", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_tables_of_the_methods_are_those_of_their_sources():
    command = [sys.executable, str(DOCS / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_method_has_its_page_with_equations_settings_and_tables():
    modules = {path.stem for path in (ROOT / "src/fewshot/methods").glob("*.py")} - {"__init__", "base", "taskwise"}
    pages = {path: path.read_text() for path in (DOCS / "methods").glob("*.md")}
    for module in modules:
        assert any(f"fewshot.methods.{module}" in text for text in pages.values()), module
    for path, text in pages.items():
        assert "| Code" in text, path
        assert "    stage" in text, path
        assert re.search(r"^## (Measured|Published)", text, re.MULTILINE), path
        assert path.stem == "strong_stage1" or (re.search(r"^## What ", text, re.MULTILINE) and "<!-- published: " in text), (
            path
        )


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config/README.md", *DOCS.rglob("*.md")])
def test_names_of_the_code_on_a_page_are_there(page):
    for name in re.findall(r"`(fewshot(?:\.\w+)+)`", page.read_text()):
        assert pkgutil.resolve_name(name) is not None, name


@pytest.mark.parametrize("run", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.stem)
def test_pages_that_a_run_file_names_are_there(run):
    for name in re.findall(r"docs/[\w/]+\.md", run.read_text()):
        assert (ROOT / name).is_file(), name
