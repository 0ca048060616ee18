"""The pages on adding a backbone, a data set and a method, each followed word for word in a copy of the project."""

import csv
import io
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.data.sources.glyphs import draw

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STEP = re.compile(
    r"^New file `(?P<new>[^`]+)`:\n\n```\w+\n(?P<content>.*?)^```$"
    r"|^In `(?P<file>[^`]+)`, above `(?P<above>[^\n]+)`:\n\n```\w+\n(?P<added>.*?)^```$"
    r"|^In `(?P<where>[^`]+)`, (?P<ticks>`` |`)(?P<old>[^\n]+?)(?: ``|`) becomes (?P=ticks)(?P<fresh>[^\n]+?)(?: ``|`)\.$"
    r"|^    (?P<command>(?:fewshot|pytest) [^\n]+)$",
    re.MULTILINE | re.DOTALL,
)


def follow(page: str, project) -> int:
    """Carry out the steps of a page, in its order; how many there were."""
    count = 0
    for count, step in enumerate(STEP.finditer((ROOT / "docs" / "adding" / page).read_text()), 1):  # noqa: B007
        if step["new"]:
            path = project.folder / step["new"]
            assert not path.exists()
            assert path.parent.is_dir()
            path.write_text(step["content"])
        elif step["file"]:
            text = project.read(step["file"])
            assert len(re.findall(f"^{re.escape(step['above'])}", text, re.MULTILINE)) == 1, step["above"]
            place = re.search(f"^{re.escape(step['above'])}", text, re.MULTILINE).start()
            (project.folder / step["file"]).write_text(text[:place] + step["added"] + text[place:])
        elif step["where"]:
            text = project.read(step["where"])
            assert text.count(step["old"]) == 1, step["old"]
            (project.folder / step["where"]).write_text(text.replace(step["old"], step["fresh"]))
        else:
            project.call("sh", "-c", step["command"], OMP_NUM_THREADS="1")
    return count


def whole(project):
    """The copy as it would be cloned."""
    shutil.copy(ROOT / "config" / "config.yaml", project.folder / "config")
    project.commit()
    return project


def rows_of(project) -> list[dict[str, str]]:
    assert (project.folder / "results/trial/report.html").is_file()
    project.call("ruff", "format", "src", "tests")  # make format
    project.call("ruff", "check", "src", "tests")
    return list(csv.DictReader(io.StringIO(project.read("results/trial/summary.csv"))))


def test_a_backbone(copy_project, tmp_path):
    project = whole(copy_project(tmp_path / "copy"))
    assert follow("backbone.md", project) == 12
    (row,) = rows_of(project)
    assert row["backbone"] == "convmixer"
    assert row["published"] == ""
    page = project.read("results/trial/report.html")
    assert "convmixer" in page


def test_a_data_set(copy_project, tmp_path):
    project = whole(copy_project(tmp_path / "copy"))
    raw = project.folder / "data" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(raw / "marks.zip", "w") as file:
        for label, name in enumerate(("anchor", "arrow", "cross", "fish", "hammer", "key", "star", "wheel")):
            for number in range(6):
                picture = io.BytesIO()
                Image.fromarray(np.asarray(draw((label, number), seed=0, size=40))).save(picture, "PNG")
                file.writestr(f"{name}/{number}.png", picture.getvalue())
    assert follow("dataset.md", project) == 13
    (row,) = rows_of(project)
    assert row["dataset"] == "marks"
    # Snakemake knows the archive by the settings alone.
    said = project.call(
        *("snakemake", "--cores", "1", "--dry-run", "--quiet", "host"),
        *("--forceall", "--until", "prepare", "--configfile", "trial.yaml"),
    )
    assert "data/raw/marks.zip" in said


def test_a_method(copy_project, tmp_path):
    project = whole(copy_project(tmp_path / "copy"))
    assert follow("method.md", project) == 14
    rows = rows_of(project)
    assert [(row["method"], row["stage2"], row["shot"]) for row in rows] == [
        ("GAP", "as-trained", "1"), ("GAP", "as-trained", "2"), ("GAP + SimpleShot", "simpleshot", "1"),
        ("GAP + SimpleShot", "simpleshot", "2"),
    ]  # fmt: skip
    refused = project.read("trial.yaml").replace("{name: conv64}", "{name: conv64}\n      classifier: {pooling: dense}")
    (project.folder / "refused.yaml").write_text(refused)
    said = project.call("fewshot", "run", "refused.yaml", ok=False)
    assert "simpleshot takes one vector an image; train network 'gap' with pooling: gap or gmp" in said


@pytest.mark.parametrize("page", ["backbone.md", "dataset.md", "method.md"])
def test_no_step_of_a_page_is_passed_over(page):
    text = (ROOT / "docs" / "adding" / page).read_text()
    steps = list(STEP.finditer(text))
    assert text.count("```") == 2 * sum(bool(step["new"] or step["file"]) for step in steps)
    assert len(re.findall(r"^    \S", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)) == sum(
        bool(step["command"]) for step in steps
    )
