"""A user's own class folders through the whole pipeline, by the very run file that is meant for them, shortened."""

import contextlib
import csv
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from fewshot.cli import app
from fewshot.data.sources.glyphs import draw
from fewshot.data.store import open_store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLASSES, IMAGES = 12, 9
SHORT = {
    "extends": str(ROOT / "config" / "runs" / "folder.yaml"),
    "run": "mine",
    "device": "cpu",
    "stage1": {
        "training": {
            "iterations": 2, "batch_size": 8, "log_every": 1,
            "validation": {"every": 2, "way": 2, "shot": 1, "queries": 3, "tasks": 4},
        },
        "networks": {name: {"backbone": {"widths": [4, 4, 8, 8]}} for name in ("resnet12-gap", "resnet12-dense")},
    },
    "evaluation": {"way": 2, "shots": [1, 2], "queries": 4, "tasks": 6},
}  # fmt: skip
"""The run file as it stands, and what makes it seconds long."""


def save(image: Image.Image, path: Path, kind: int) -> None:
    """In one of the forms that photographs come in."""
    turned = Image.Exif()
    turned[0x0112] = 6
    match kind % 7:
        case 0:
            image.save(path.with_suffix(".jpg"), exif=turned)
        case 1:
            image.convert("L").save(path.with_suffix(".JPG"), "JPEG")
        case 2:
            image.convert("RGBA").save(path.with_suffix(".png"))
        case 3:
            image.convert("P").save(path.with_suffix(".png"))
        case 4:
            image.convert("CMYK").save(path.with_suffix(".jpeg"))
        case 5:
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path.with_suffix(".png"))
        case 6:
            image.convert("1").save(path.with_suffix(".png"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Drawn figures, 12 classes of 9, from 20 to 60 pixels a side."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        folder = root / f"figure {label}"
        folder.mkdir()
        for number in range(IMAGES):
            size = tuple(int(side) for side in rng.integers(20, 61, 2))
            save(Image.fromarray(draw((label, number), seed=0, size=48)).resize(size), folder / f"{number} of mine", number)
        (folder / ".DS_Store").write_text("not looked at")
    return root


@pytest.fixture
def place(tmp_path, photos) -> Path:
    """A folder to run in, with the images where the run file looks for them."""
    (tmp_path / "data" / "raw").mkdir(parents=True)
    shutil.copytree(photos, tmp_path / "data" / "raw" / "my-images")
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / "published.csv", tmp_path / "config")
    return tmp_path


def run(place: Path, **dataset):
    (place / "mine.yaml").write_text(yaml.safe_dump({**SHORT, "dataset": dataset}))
    with contextlib.chdir(place):
        done = CliRunner().invoke(app, ["run", "mine.yaml", "--threads", "1"])
    logging.basicConfig(force=True)  # the command's log went to a stream that is closed now
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def refusal(done) -> str:
    """The one line that a command ended with."""
    assert done.exit_code == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    return line


def test_from_class_folders_to_tables(place):
    """Seeded split, size found from the images."""
    assert run(place).exit_code == 0
    (meta,) = place.glob("resources/folder-own-size-*/images/meta.json")
    store = open_store(meta.parent)
    assert len(store.labels) == CLASSES * IMAGES
    sides = [min(Image.open(path).size) for path in place.glob("data/raw/my-images/*/[0-9]*")]
    assert store.image_size == sorted(sides)[(len(sides) - 1) // 2]
    assert store.classes.groupby("part")["name"].count().to_dict() == {"base": 7, "test": 2, "val": 3}
    assert not [name for name in store.classes["name"] if np.ptp(store.images[store.labels == 0]) == 0]
    with (place / "results" / "mine" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["dataset"] for row in rows} == {"folder"}
    assert all(0 <= float(row["accuracy"]) <= 100 and not row["published"] for row in rows)
    page = (place / "results" / "mine" / "report.html").read_text()
    assert "The split of the classes was drawn from seed 0" in page
    assert "found from their shorter sides" in page


def test_with_a_split_file_by_snakemake(copy_project, tmp_path, photos):
    project = copy_project(tmp_path / "copy")
    shutil.copytree(photos, project.folder / "data" / "raw" / "my-images")
    parts = ["test"] * 3 + ["base"] * 6 + ["val"] * 3
    rows = [f"figure {label},{part}" for label, part in enumerate(parts)]
    (project.folder / "data" / "raw" / "my-images.csv").write_text("\n".join(["class,part", *rows]))
    short = SHORT | {"extends": "folder.yaml", "dataset": {"split": "data/raw/my-images.csv", "image_size": 32}}
    short["evaluation"] = SHORT["evaluation"] | {"shots": [1], "tests": [{"networks": ["resnet12-gap"]}]}
    (project.folder / "config" / "runs" / "mine.yaml").write_text(yaml.safe_dump(short))
    project.call("snakemake", "--cores", "2", "results_only", "--configfile", "config/runs/mine.yaml", OMP_NUM_THREADS="1")
    (classes,) = project.folder.glob("resources/folder-32px-*/images/classes.csv")
    with classes.open() as file:
        found = {row["name"]: row["part"] for row in csv.DictReader(file)}
    assert found == {f"figure {label}": part for label, part in enumerate(parts)}
    assert len(project.read("results/mine/summary.csv").splitlines()) == 2
    assert json.loads(project.read("results/mine/metrics.json"))
    assert (project.folder / "results" / "mine" / "report.html").is_file()


def mistakes():
    def without_classes(root: Path) -> None:
        for path in root.iterdir():
            shutil.rmtree(path)

    def too_few(root: Path) -> None:
        for folder in root.iterdir():
            for path in sorted(folder.glob("[0-9]*"))[3:]:
                path.unlink()

    def empty(root: Path) -> None:
        (root / "empty one").mkdir()

    def no_image(root: Path) -> None:
        (root / "figure 3" / "notes.txt").write_text("seen at dawn")

    def few_classes(root: Path) -> None:
        for path in sorted(root.iterdir())[4:]:
            shutil.rmtree(path)

    def gone(root: Path) -> None:
        shutil.rmtree(root)

    return {
        "without_classes": (
            without_classes,
            "my-images: no sub-folders; put the images of every class into a folder of its own",
        ),
        "too_few": (too_few, "needs shots 1 + queries "),
        "empty": (empty, "empty one: class folder without images; add some or remove the folder"),
        "no_image": (no_image, "not an image that Pillow knows: figure 3/notes.txt; remove"),
        "few_classes": (
            few_classes,
            "1 classes in part test, but evaluation.way is 2: lower it, or give the split more classes",
        ),
        "gone": (gone, "my-images: no such folder; dataset.folder names the folder whose sub-folders are the classes"),
    }


@pytest.mark.parametrize("mistake", mistakes())
def test_a_mistake_is_one_line_before_anything_is_trained(place, mistake):
    spoil, words = mistakes()[mistake]
    spoil(place / "data" / "raw" / "my-images")
    assert words in refusal(run(place))
    assert not list(place.glob("resources/*/networks"))


def test_a_split_file_that_names_other_classes(place):
    (place / "split.csv").write_text("class,part\nfigure 0,base\nfigure 99,test\n")
    line = refusal(run(place, split="split.csv"))
    assert "split.csv: class 'figure 99' is not in the data set; correct the name or remove the row" in line
