"""What the command line makes again: what is of other images, another network or other code than there are now."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from fewshot import job_code
from fewshot.cli import app
from fewshot.config import parse
from fewshot.files import read_json, read_record, write_record
from fewshot.plan import Plan

ROOT = Path(__file__).parents[2]
CONFIG = {
    "run": "own",
    "device": "cpu",
    "dataset": {"name": "folder", "folder": "photos", "image_size": 16, "shares": [0.5, 0.25, 0.25], "held_out": 0.25},
    "stage1": {
        "training": {"iterations": 3, "batch_size": 8, "validation": {"every": 0, "keep": "last"}},
        "networks": {"small": {"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}}},
    },
    "stage2": {"tuned": {"method": "imprinting"}},
    "evaluation": {
        "way": 2, "queries": 2, "shots": [1], "tasks": 5,
        "tests": [{"networks": ["small"]}, {"networks": ["small"], "adaptation": "tuned"}],
    },
}  # fmt: skip


def draw(folder: Path, seed: int, classes: int = 8) -> None:
    rng = np.random.default_rng(seed)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        for number in range(8):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{number}.png")


def run() -> str:
    """`fewshot run`; what it said."""
    done = CliRunner().invoke(app, ["run", "own.yaml", "--threads", "1"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output + done.stderr


def made(plan: Plan) -> dict[str, int]:
    """Every file of the pipeline and when it was made."""
    return {str(path): path.stat().st_mtime_ns for path in plan.resources.rglob("*") if path.is_file()} | {
        str(path): path.stat().st_mtime_ns for path in (plan.results / "evaluations").rglob("*") if path.is_file()
    }


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Plan:
    """A finished run of images of one's own."""
    monkeypatch.chdir(tmp_path)
    draw(Path("photos"), 0)
    Path("config").mkdir()
    shutil.copy(ROOT / "config/published.csv", "config")
    Path("own.yaml").write_text(yaml.safe_dump(CONFIG))
    run()
    plan = Plan(parse(CONFIG))
    before = made(plan)
    run()
    assert made(plan) == before, "nothing has changed"
    return plan


def as_made_afresh(place: Path) -> pd.DataFrame:
    """The summary of the same run in an empty folder."""
    for name in ("photos", "config"):
        shutil.copytree(name, place / name)
    shutil.copy("own.yaml", place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run()
        return pd.read_csv("results/own/summary.csv")


def test_other_images_make_everything_again(plan, tmp_path_factory):
    before = read_record(plan.store_dir / "meta.json")["data_hash"]
    draw(Path("photos"), 1, classes=9)
    run()
    assert read_record(plan.store_dir / "meta.json")["data_hash"] != before
    assert pd.read_csv("results/own/summary.csv").equals(as_made_afresh(tmp_path_factory.mktemp("afresh")))


def test_what_is_made_again_is_said_once_its_work_starts(plan):
    draw(Path("photos"), 1)
    (network,) = plan.networks
    record, model = (str(path) for path in (plan.store_dir / "meta.json", plan.network_dir(network) / "model.json"))
    config = CONFIG | {"dataset": CONFIG["dataset"] | {"hashes": {"photo.zip": "none"}}}  # which makes no other store
    Path("own.yaml").write_text(yaml.safe_dump(config))
    before = made(plan)
    done = CliRunner().invoke(app, ["run", "own.yaml"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "dataset.hashes names photo.zip" in done.stderr
    assert "again" not in done.output + done.stderr
    assert made(plan) == before
    Path("own.yaml").write_text(yaml.safe_dump(CONFIG))
    said = run()
    assert f"{record} is of other images: making it again" in said
    assert f"{model} is trained on other images: making it again" in said


def test_without_the_images_what_is_there_is_kept(plan):
    before = made(plan)
    shutil.rmtree("photos")
    run()
    assert made(plan) == before


def test_another_split_makes_everything_again(plan):
    names = sorted(path.name for path in Path("photos").iterdir())
    config = CONFIG | {"dataset": CONFIG["dataset"] | {"split": "split.csv"}}
    Path("own.yaml").write_text(yaml.safe_dump(config))
    summaries = []
    for order in (names, names[::-1]):
        parts = zip(order, ["base"] * 4 + ["val"] * 2 + ["test"] * 2, strict=True)
        pd.DataFrame(parts, columns=["class", "part"]).to_csv("split.csv", index=False)
        run()
        classes = pd.read_csv(Plan(parse(config)).store_dir / "classes.csv")
        assert set(classes[classes["part"] == "test"]["name"]) == set(order[-2:])
        summaries.append(pd.read_csv("results/own/summary.csv"))
    assert set(summaries[0]["run_key"]).isdisjoint(summaries[1]["run_key"])


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        ("preparation", {"images"}),
        ("episodes", {"episodes"}),
        ("extraction", {"features-test"}),
        ("extension", {"extended", "tuned"}),
        ("evaluation", {"tuned", "as-trained"}),
    ],
)
def test_other_code_makes_its_stage_again(plan, monkeypatch, stage, again):
    before = made(plan)
    monkeypatch.setattr(job_code, stage, lambda *_: "other")
    run()
    after = made(plan)
    assert set(after) == set(before)
    changed = {name for name in before if before[name] != after[name]}
    assert {part for name in changed for part in Path(name).parts if part in {
        "images", "episodes", "seed0", "features-test", "extended", "tuned", "as-trained"
    }} - {"seed0"} == again  # fmt: skip
    run()
    assert made(plan) == after, "once"


def test_a_network_of_other_code_is_kept_and_named(plan, monkeypatch):
    before = made(plan)
    monkeypatch.setattr(job_code, "training", lambda *_: "other")
    said = run()
    assert made(plan) == before
    (network,) = plan.networks
    file = plan.network_dir(network) / "model.json"
    assert f"{file}: made by other code than the present; `fewshot train --force` trains it again" in said


def test_a_network_that_is_trained_again_takes_all_that_is_made_of_it_along(plan):
    config = yaml.safe_load(Path("own.yaml").read_text())
    (network,) = plan.networks
    before = read_json(plan.network_dir(network) / "model.json")["sha256"]
    config["seeds"] = [1]
    other = Plan(parse(config))
    Path("own.yaml").write_text(yaml.safe_dump(config))
    run()
    for name in ("model.safetensors", "metrics.jsonl", "model.json"):  # as if seed 0 had been trained again otherwise
        shutil.copy(other.network_dir(other.networks[0]) / name, plan.network_dir(network) / name)
    Path("own.yaml").write_text(yaml.safe_dump(CONFIG))
    run()
    now = read_json(plan.network_dir(network) / "model.json")["sha256"]
    assert now != before
    assert read_json(plan.features_dir(network) / "features.json")["network_sha256"] == now
    assert read_json(plan.adapted_dir(plan.adaptations[0]) / "adapt.json")["network_sha256"] == now
    for job in plan.evaluations:
        assert read_json(plan.evaluation_dir(job) / "settings.json")["model_sha256"] == now


def test_records_of_an_earlier_version_count_as_unchanged(plan):
    (network,) = plan.networks
    for path, files in (
        (plan.features_dir(network) / "features.json", ("features.npy", "rows.npy")),
        (plan.network_dir(network) / "model.json", ("model.safetensors", "metrics.jsonl")),
    ):
        record = read_record(path)
        record.pop("code")
        record.pop("files")
        write_record(path, record, files)
    before = made(plan)
    run()
    assert made(plan) == before
