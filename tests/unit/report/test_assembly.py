"""summary.csv and its companions."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pytest

from fewshot import stages
from fewshot.config import Conv64Settings, NetworkSettings
from fewshot.config.backbones import _Backbone
from fewshot.errors import DataError
from fewshot.intervals import t_quantile
from fewshot.plan import Plan
from fewshot.report import cells
from fewshot.report.assembly import PAIRED_COLUMNS, SEEDS_COLUMNS, assemble, network_table, over_seeds
from fewshot.report.paper000 import PROTOCOLS, network_deviations
from fewshot.report.published import Published, load_published
from fewshot.report.results import NetworkRecord, make_rows, read_settings, read_store

Make = Callable[..., Plan]
DESIGN = (
    "run, dataset, method, backbone, stage1, stage2, way, shot, queries, tasks, population, support_pooling, query_pooling, "
    "seed, accuracy, ci95, published, published_ci95, published_source, deviations, run_key"
)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "evaluations" not in path.parts
    }


def test_summary(made_run: Make) -> None:
    plan = made_run()
    assemble(plan)
    header = (plan.results / "summary.csv").read_text().splitlines()[0]
    assert header == DESIGN.replace(" ", "")
    table = pd.read_csv(plan.results / "summary.csv", keep_default_na=False)
    assert len(table) == sum(len(setting.populations) for job in plan.evaluations for setting in job.settings) == 13
    dense = table[(table["stage1"] == "dense") & (table["stage2"] == "as-trained") & (table["shot"] == 5)]
    row = dense[(dense["query_pooling"] == "dense") & (dense["population"] == "novel")].iloc[0]
    job = plan.evaluation(plan.network("r12-dense", 0), "as-trained")
    tasks = pd.read_parquet(plan.evaluation_dir(job) / "5shot-gap-dense.parquet")["novel"].to_numpy()
    assert row["accuracy"] == pytest.approx(sum(tasks) / 40, abs=1e-4)
    assert row["ci95"] == pytest.approx(t_quantile(39) * np.sqrt(sum((tasks - tasks.mean()) ** 2) / 39 / 40), abs=1e-4)
    assert (row["method"], row["backbone"], row["way"], row["queries"], row["tasks"]) == ("DC", "resnet12", 5, 3, 40)
    assert (float(row["published"]), float(row["published_ci95"])) == (57.05, 0.16)
    assert row["published_source"] == "paper 000, Table 5"
    assert row["run_key"] == "key-r12-dense-as-trained-5shot-gap-dense-0"
    assert "40 tasks instead of 10,000; 3 queries a class instead of 30" in row["deviations"]
    assert row["deviations"].endswith("archive hash not checked; numbers made up")
    implants = table[table["stage2"] == "implanting"].iloc[0]
    assert (implants["method"], implants["tasks"], float(implants["published"])) == ("DC + IMP", 20, 57.63)


def test_cells_without_a_published_number_are_empty(made_run: Make) -> None:
    plan = made_run()
    assemble(plan)
    table = pd.read_csv(plan.results / "summary.csv", keep_default_na=False)
    small = table[table["backbone"] == "c128f"].iloc[0]
    assert (small["published"], small["published_ci95"], small["published_source"]) == ("", "", "")


def test_paired(made_run: Make) -> None:
    plan = made_run()
    assemble(plan)
    table = pd.read_csv(plan.results / "paired.csv")
    assert tuple(table.columns) == PAIRED_COLUMNS
    counts = table.groupby(["shot", "population"]).size().to_dict()
    assert counts == {(1, "novel"): 6, (5, "novel"): 10, (5, "base"): 1, (5, "both"): 1}  # of 4, 5, 2 and 2 settings
    gain = table[(table["second_adaptation"] == "implants") & (table["first_query_pooling"] == "dense")].iloc[0]
    assert (gain["first_network"], gain["second_network"], gain["tasks"]) == ("r12-dense", "r12-dense", 20)
    network = plan.network("r12-dense", 0)
    before, after = (
        pd.read_parquet(plan.evaluation_dir(plan.evaluation(network, name)) / "5shot-gap-dense.parquet")["novel"][:20]
        for name in ("as-trained", "implants")
    )
    differences = [b - a for a, b in zip(before, after, strict=True)]
    assert gain["difference"] == pytest.approx(np.mean(differences), abs=1e-4)
    assert gain["ci95"] == pytest.approx(t_quantile(19) * np.std(differences, ddof=1) / np.sqrt(20), abs=1e-4)
    assert gain["excludes_zero"] == ("yes" if abs(gain["difference"]) > gain["ci95"] else "no")


def test_different_tasks_are_not_paired(made_run: Make, edit_record: Callable[..., None]) -> None:
    plan = made_run()
    path = plan.evaluation_dir(plan.evaluation(plan.network("r12-gap", 0), "as-trained")) / "settings.json"
    edit_record(path, episodes=json.loads(path.read_text().replace("tasks-of-5", "other-tasks"))["episodes"])
    assemble(plan)
    table = pd.read_csv(plan.results / "paired.csv")
    five = table[table["shot"] == 5]
    assert "r12-gap" not in {*five["first_network"], *five["second_network"]}


def test_metrics(made_run: Make) -> None:
    plan = made_run()
    assemble(plan)
    found = json.loads((plan.results / "metrics.json").read_text())
    assert set(found) == {"small-gap", "r12-gap", "r12-dense"}
    assert set(found["r12-dense"]) == {"as-trained", "implants"}
    summary = pd.read_csv(plan.results / "summary.csv")
    base = summary[(summary["stage1"] == "gap") & (summary["population"] == "base")].iloc[0]
    assert found["r12-gap"]["as-trained"]["5shot-gap-gap-base"] == base["accuracy"]


def test_several_seeds(made_run: Make) -> None:
    plan = made_run(seeds=[0, 1, 2])
    assemble(plan)
    summary = pd.read_csv(plan.results / "summary.csv")
    seeds = pd.read_csv(plan.results / "seeds.csv")
    assert tuple(seeds.columns) == SEEDS_COLUMNS
    assert len(summary) == 3 * len(seeds) == 39
    first = summary[(summary["backbone"] == "c128f") & (summary["shot"] == 1)]
    assert list(first["seed"]) == [0, 1, 2]
    row = seeds.iloc[0]
    assert row["seeds"] == 3
    assert row["accuracy"] == pytest.approx(first["accuracy"].mean(), abs=1e-4)
    assert row["ci95_seeds"] == pytest.approx(4.30265273 * first["accuracy"].std(ddof=1) / np.sqrt(3), abs=1e-3)
    assert row["ci95_tasks"] == pytest.approx(first["ci95"].mean(), abs=1e-4)
    assert set(pd.read_csv(plan.results / "paired.csv")["seed"]) == {0, 1, 2}
    assert "over 3 seeds" in (plan.results / "tables" / "methods.md").read_text()


def test_what_is_true_of_one_seed_is_told_of_the_mean(made_run: Make) -> None:
    """As where patience ended the trainings at different iterations."""
    plan = made_run(seeds=[0, 1])
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(load_published()))
    told = [replace(row, deviations=("common", f"of seed {row.record.network.seed}")) for row in rows]
    assert set(over_seeds(plan, told)["deviations"]) == {"common; of seed 0; of seed 1"}


def test_one_seed_has_the_header_of_seeds_alone(made_run: Make) -> None:
    plan = made_run()
    assemble(plan)
    assert (plan.results / "seeds.csv").read_text() == ",".join(SEEDS_COLUMNS) + "\n"


def test_networks_show_their_learned_scale(made_run: Make) -> None:
    plan = made_run()
    assemble(plan)
    table = pd.read_csv(plan.results / "tables" / "networks.csv")
    assert list(table["scale"]) == [14.0] * 3  # 10 + 400 / 100 at the kept iteration, 400 of 600


class Tiny(_Backbone):
    """One of one's own, without widths."""

    family: ClassVar[str] = "tiny"
    name: Literal["tiny"] = "tiny"
    width: int
    last_pool: bool = True


@pytest.mark.parametrize(
    ("backbone", "embedding", "words", "behind"),
    [
        (Tiny(width=8), None, "tiny, width 8, last pool True", " (width 8, last pool True)"),
        (Tiny(width=16), 4, "tiny, width 16, last pool True, embedding 4", " (width 16, last pool True)"),
        (Conv64Settings(name="conv64"), None, "Conv-64, 64-64-64-64", ""),
    ],
)
def test_networks_name_their_backbone_whatever_settings_it_has(backbone, embedding, words: str, behind: str) -> None:
    network = NetworkSettings(backbone={"name": "conv64"}).model_copy(update={"backbone": backbone, "embedding": embedding})
    assert row_of(network)["backbone"] == words
    assert cells._widths(backbone) == behind


@pytest.mark.parametrize(
    ("objective", "kind", "images"),
    [
        ({"kind": "classification"}, "cosine", 32),
        ({"kind": "episodic", "way": 7, "shot": 2, "queries": 3}, "none", 35),
        ({"kind": "lifted_structured", "way": 6, "images": 4}, "none", 24),
    ],
)
def test_networks_show_how_many_images_an_iteration_takes(objective: dict[str, Any], kind: str, images: int) -> None:
    training = {"batch_size": 32, "objective": objective}
    network = NetworkSettings.model_validate(
        {"backbone": {"name": "resnet12"}, "classifier": {"kind": kind}, "training": training}
    )
    assert row_of(network)["batch"] == str(images)
    assert f"of {images} instead of 8,000 of 200" in "".join(network_deviations(network, PROTOCOLS["miniimagenet"]))


def row_of(network: NetworkSettings) -> dict[str, Any]:
    info = {"iteration": 5, "parameters": 9, "seconds": 1.0, "device": "CPU", "precision": "float32", "validation": None}
    table = network_table([NetworkRecord("one", 0, network, info, None)])
    return dict(zip([column.name for column in table.columns], table.rows[0], strict=True))


def test_results_of_other_settings_leave_the_old_report(made_run: Make, edit_record: Callable[..., None]) -> None:
    plan = made_run()
    assemble(plan)
    before = files(plan.results)
    path = plan.evaluation_dir(plan.evaluations[-1]) / "settings.json"
    edit_record(path, settings=json.loads(path.read_text().replace('"tasks": 20', '"tasks": 21'))["settings"])
    with pytest.raises(DataError, match="evaluated with other settings"):
        assemble(plan)
    assert files(plan.results) == before


def test_the_same_results_give_the_same_bytes(made_run: Make) -> None:
    plan = made_run()
    assemble(plan)
    first = files(plan.results)
    assemble(plan)
    assert files(plan.results) == first
    assert not list(plan.results.glob(".*"))


def test_a_missing_result_leaves_the_old_report(made_run: Make) -> None:
    plan = made_run()
    assemble(plan)
    before = files(plan.results)
    (plan.evaluation_dir(plan.evaluations[-1]) / "settings.json").unlink()
    with pytest.raises(DataError, match="missing"):
        assemble(plan)
    assert files(plan.results) == before


def test_missing_published_numbers(made_run: Make) -> None:
    plan = made_run()
    Path("config/published.csv").unlink()
    with pytest.raises(DataError, match=r"published\.csv: missing"):
        assemble(plan)


def test_figures_that_the_run_no_longer_asks_for_go(made_run, pytestconfig) -> None:
    plan = made_run(activation_maps=None)
    Path("config").mkdir(exist_ok=True)
    shutil.copy(pytestconfig.rootpath / "config" / "published.csv", "config")
    folder = plan.results / "figures"
    folder.mkdir(parents=True)
    kept = [folder / "accuracy_by_shot.svg", folder / "notes.txt"]
    for path in (*kept, folder / "activation_maps.png", folder / "activation_maps.csv", folder / "class_vectors.svg"):
        path.touch()
    stages.assemble(plan)
    assert sorted(folder.iterdir()) == kept
