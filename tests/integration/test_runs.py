"""Every run file from end to end, in seconds: all of its jobs on small drawn images, up to its tables, figures and report."""

import contextlib
import json
import logging
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from fewshot.cli import app
from fewshot.config import EpisodicSettings, LeakySquaredEuclideanSettings, RunConfig, load
from fewshot.drawings import figures, marks
from fewshot.plan import Plan
from fewshot.records import adaptation_record, evaluation_records, training_record
from tests.integration.rehearsal import (
    cells,
    differ_in_one_of_the_leak,
    draw_images,
    has_gains,
    pairs,
    random_weights,
    rehearsed,
    rows,
)

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "config" / "runs"
FILES = [ROOT / "config" / "config.yaml", *sorted(RUNS.glob("*.yaml"))]
TABLES = {
    "000_table1_networks": 2 * 2 * 3,
    "000_table2_poolings": 2 * 4 * 3,
    "000_table3_implants": 4 * 3,
    "000_table4_methods": 3 * 3 + 2,
    "000_table5_fc100": 2 * 3 + 2,
}
"""Run file of a table of paper 000 -> measured cells of that table."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_a_run_file_and_a_short_one(name):
    assert sorted(path.stem for path in RUNS.glob("000_table*.yaml") if "_cpu" not in path.stem) == sorted(TABLES)
    assert (RUNS / ("fc100_cpu.yaml" if "fc100" in name else f"{name}_cpu.yaml")).is_file()
    assert len(cells(load(RUNS / f"{name}.yaml"))) == TABLES[name]


def folder_of(path: Path) -> Path:
    """A working folder with what a run reads besides its file."""
    (path / "config").mkdir()
    shutil.copy(ROOT / "config" / "published.csv", path / "config")
    return path


def shortened(folder: Path, file: Path) -> Path:
    """The rehearsal of a run file, and the images that it wants, in a working folder."""
    short = folder / file.name
    short.write_text(yaml.safe_dump(rehearsed(load(file), lambda name: random_weights(name, folder)), sort_keys=False))
    draw_images(Plan(load(short)), folder)
    return short


def ran(folder: Path, file: Path) -> Plan:
    """`fewshot run`, as a user starts it; the plan of what it made."""
    short = shortened(folder, file)
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, ["run", str(short), "--threads", "1"], catch_exceptions=False)
    logging.basicConfig(force=True)  # the command's log went to a stream that is closed now
    assert done.exit_code == 0, done.output
    assert "report: results/" in done.output
    return Plan(load(short))


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """Where all of them run, so that they share what runs share."""
    return folder_of(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def run(here) -> Callable[[Path], Plan]:
    """Rehearse a run file, once; its plan."""
    return cache(lambda file: ran(here, file))


def planned(plan_with_snakemake, folder: Path, file: Path) -> dict[str, int]:
    """Jobs a rule that Snakemake would run; none where it has nothing to do."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = ("--snakefile", str(ROOT / "Snakefile"), "--configfile", str(file), "--workflow-profile", "none", "--dry-run")
    done = plan_with_snakemake(folder, *command, "--quiet", "host", "--", "results_only", environment=environment)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert ("Job stats:" in said) != ("Nothing to be done" in said), said
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", said, re.MULTILINE)}


# --- what a user looks at -----------------------------------------------------------------------------------------------


def check(folder: Path, config: RunConfig, plan: Plan) -> None:
    """All that the run file `config` asks for is in the results of its rehearsal, `plan`, and nothing else."""
    results = folder / plan.results
    check_cells(results, config, plan.config)
    for name, endings in figures(plan).items():
        for ending in endings:
            check_picture(results / "figures" / f"{name}.{ending}")
    check_figures(results / "figures", config)
    gains = not read(results / "figures" / "paired_gains.csv").empty
    assert gains == has_gains(config)
    if config.evaluation.way != "all":  # paper 001's tables have no gains
        assert (results / "tables" / "gains.csv").exists() == gains
    evaluation, known = plan.config.evaluation, read(ROOT / "config" / "published.csv")
    later = known[(known["dataset"] == config.dataset.name) & (known["way"] == evaluation.way) & (known["paper"] == "other")]
    assert (results / "tables" / "references.csv").exists() == (evaluation.part == "test" and not later.empty)
    for name in ("networks", "deviations"):
        assert not read(results / "tables" / f"{name}.csv").empty
    assert {path.suffix for path in (results / "tables").iterdir()} == {".csv", ".html", ".md"}
    page = (results / "report.html").read_text()
    assert page.rstrip().endswith("</html>")
    assert all(job.name in page for job in plan.networks)
    sweep = results / "figures" / "leak_sweep.csv"
    assert ("begins to leak" in page) == (sweep.exists() and len(read(sweep)) > 0)  # an empty figure is left out


def check_records(folder: Path, plan: Plan) -> None:
    """What goes to MLflow: a record of every job, all numbers finite, found by the keys that summary.csv names."""
    with contextlib.chdir(folder):
        evaluations = [record for job in plan.evaluations for record in evaluation_records(plan, job)]
        others = [
            *(training_record(plan, job) for job in plan.networks),
            *(adaptation_record(plan, job) for job in plan.adaptations),
        ]
        assert {record.run_key for record in evaluations} == set(read(plan.results / "summary.csv")["run_key"])
        assert all(path.is_file() for record in (*evaluations, *others) for path in record.artifacts)
    assert all(record.metrics for record in evaluations)
    assert all(math.isfinite(value) for record in (*evaluations, *others) for _, value, _ in record.metrics)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


def check_cells(results: Path, config: RunConfig, short: RunConfig) -> None:
    """Every cell that the run file asks for, with an accuracy; tasks are those of its rehearsal."""
    asked = cells(short)
    assert set(asked) == set(cells(config))
    summary = read(results / "summary.csv")
    told = ["shot", "tasks", "population", "support_pooling", "query_pooling", "seed"]
    assert Counter(summary[told].itertuples(index=False, name=None)) == rows(short)
    assert summary["accuracy"].between(0, 100).all()
    assert ((summary["ci95"] >= 0) == (summary["tasks"] > 1)).all()  # one task tells nothing of the spread
    assert set(summary["run"]) == {config.run}
    metrics = json.loads((results / "metrics.json").read_text())
    found = {
        (network, adaptation, setting): value
        for network, adaptations in metrics.items()
        for adaptation, settings in adaptations.items()
        for setting, value in settings.items()
    }
    assert set(found) == {
        (network, adaptation, f"{shot}shot-{pair.replace('/', '-')}-{population}")
        for network, adaptation, shot, pair, population in asked
    }
    assert len(config.seeds) > 1 or sorted(found.values()) == sorted(summary["accuracy"])
    paired = read(results / "paired.csv")
    assert len(paired) == pairs(short)
    assert paired["difference"].between(-100, 100).all()


def check_picture(path: Path) -> None:
    match path.suffix:
        case ".svg":
            assert "<path" in path.read_text()
            assert path.read_text().rstrip().endswith("</svg>")
        case ".png":
            with Image.open(path) as picture:
                picture.load()
                assert picture.convert("L").getextrema() != (255, 255)
        case _:
            assert path.read_text().count(",") > 0


def check_figures(folder: Path, config: RunConfig) -> None:
    """What each figure shows: all networks, methods and shots of the run file that belong into it."""
    asked, networks = cells(config), config.stage1.networks
    trained = {job.name for job in Plan(config).networks}
    curves = read(folder / "training_curves.csv")
    assert set(curves["network"]) == trained
    assert set(curves.loc[curves["measure"] == "validation_accuracy", "network"]) == {
        name for name in trained if networks[name].training.validation.every
    }
    shots = read(folder / "accuracy_by_shot.csv")
    novel = {(network, adaptation, shot) for network, adaptation, shot, _, population in asked if population == "novel"}
    assert set(shots[["network", "adaptation", "shot"]].itertuples(index=False, name=None)) == novel
    if config.activation_maps is not None:
        assert set(read(folder / "activation_maps.csv")["network"]) == set(config.activation_maps.networks)
    if config.class_vectors is not None:
        classes = read(folder / "class_vectors.csv").groupby("side")["class"].apply(sorted).tolist()
        assert len(classes) == 2
        assert len(classes[0]) > 1
        assert classes[0] == classes[1]
    if config.evaluation.way == "all":
        check_low_shot(folder, config)
    episodic = {name for name in trained if isinstance(networks[name].training.objective, EpisodicSettings)}
    if episodic:
        shown = read(folder / "distance_histograms.csv")
        assert set(shown["network"]) == {name for name in episodic if networks[name].training.objective.histograms}
        assert shown.groupby("network")["iteration"].nunique().eq(2).all()
        sweep = read(folder / "leak_sweep.csv")
        leaky = {
            (name, shot) for name, _, shot, _, _ in asked
            if isinstance(networks[name].distance, LeakySquaredEuclideanSettings)
        }  # fmt: skip
        swept = {
            one for one, other in permutations(leaky, 2)
            if one[1] == other[1] and differ_in_one_of_the_leak(networks[one[0]], networks[other[0]])
        }  # fmt: skip
        assert swept == set(sweep[["network", "shot"]].itertuples(index=False, name=None))


def check_low_shot(folder: Path, config: RunConfig) -> None:
    asked = cells(config)
    tuned = {name for name, settings in config.stage2.items() if getattr(settings, "finetuning", None) is not None}
    for name in ("low_shot_accuracy", "embedding_size"):
        shown = read(folder / f"{name}.csv")[["network", "adaptation", "shot", "population"]]
        assert Counter(shown.itertuples(index=False, name=None)) == Counter(
            (network, adaptation, shot, population) for network, adaptation, shot, _, population in asked
        )
    curves = read(folder / "finetuning_curves.csv")
    assert set(curves[["network", "adaptation", "shot"]].itertuples(index=False, name=None)) == {
        cell[:3] for cell in asked if cell[1] in tuned
    }
    assert not len(curves) or set(curves["epoch"]) == {0, 1}
    assert read(folder / "exemplars.csv")["recall"].between(0, 100).all()
    assert len(read(folder / "exemplars.csv")) > 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_run_file_works_from_images_to_report(here, run, file):
    check(here, load(file), run(file))
    check_records(here, run(file))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_snakemake_finds_nothing_left_to_do(here, run, file, plan_with_snakemake):
    """Its jobs and files are those of the command line; the tables, and maps, of which it would have its own, are called so."""
    results = here / run(file).results
    made = (results / "summary.csv").stat().st_mtime_ns
    for mark in (results / "assembled", *(here / mark for mark in marks(run(file)))):
        mark.touch()
        os.utime(mark, ns=(made, made))
    assert planned(plan_with_snakemake, here, here / file.name) == {}


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("summary.csv", lambda text: "\n".join(text.splitlines()[:-1])),
        ("summary.csv", lambda text: text.replace(",novel,", ",base,", 1)),
        ("paired.csv", lambda text: "\n".join(text.splitlines()[:-1])),
        ("metrics.json", lambda text: text.replace("1shot", "5shot", 1)),
        ("figures/paired_gains.csv", lambda text: text.splitlines()[0]),
        ("figures/training_curves.csv", lambda text: text.replace("resnet12-gap", "resnet12-dense")),
        ("figures/accuracy_by_shot.svg", lambda text: ""),
        ("tables/networks.csv", lambda text: text.splitlines()[0]),
        ("report.html", lambda text: text.replace("resnet12-dense", "")),
    ],
)
def test_what_is_missing_is_noticed(here, run, tmp_path, name, spoil):
    plan, config = run(RUNS / "000_table4_methods.yaml"), load(RUNS / "000_table4_methods.yaml")
    shutil.copytree(here / plan.results, tmp_path / plan.results)
    check(tmp_path, config, plan)
    path = tmp_path / plan.results / name
    assert spoil(path.read_text()) != path.read_text()
    path.write_text(spoil(path.read_text()))
    with pytest.raises(AssertionError):
        check(tmp_path, config, plan)


# --- what runs share ----------------------------------------------------------------------------------------------------


def test_the_tables_of_one_data_set_share_their_networks_and_implants(here, run):
    plans = [run(RUNS / f"{name}.yaml") for name in list(TABLES)[:4]]
    trained = {plan.network_dir(job): job.name for plan in plans for job in plan.networks}
    assert sorted(trained.values()) == ["c128f-dense", "c128f-gap", "resnet12-dense", "resnet12-gap", "resnet12-wide"]
    adapted = {plan.adapted_dir(job): job.name for plan in plans for job in plan.adaptations if job.episodes.shot == 5}
    assert sorted(adapted.values()) == ["implants", "implants-gap-dense", "implants-gmp-dense", "implants-gmp-gmp"]
    assert all((here / path).is_dir() for path in (*trained, *adapted))


def test_after_table_1_table_2_trains_nothing_again(tmp_path, plan_with_snakemake):
    """As Snakemake plans it."""
    ran(folder_of(tmp_path), RUNS / "000_table1_networks.yaml")
    second = shortened(tmp_path, RUNS / "000_table2_poolings.yaml")
    report = {"assemble": 1, "draw_figures": 1, "draw_activation_maps": 1, "write_report": 1, "results_only": 1}
    assert planned(plan_with_snakemake, tmp_path, second) == {"evaluate": 2, **report, "total": 2 + len(report)}
