"""What is read of a run, and input that is missing, damaged or of another run."""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fewshot.config import parse
from fewshot.data.store import write_store
from fewshot.errors import DataError
from fewshot.plan import Plan
from fewshot.report.published import Published, load_published
from fewshot.report.results import (
    make_rows,
    method_labels,
    read_lines,
    read_network,
    read_settings,
    read_store,
)

Make = Callable[..., Plan]
Edit = Callable[..., None]


def test_store_counts(made_run: Make) -> None:
    record = read_store(made_run())
    assert (record.trained_images, record.held_out_images) == ((5, 5), (1, 1))
    assert record.classes == (4, 6)
    assert record.notes == ("archive hash not checked",)


def test_settings_that_would_read_alike_are_told_apart(made_run: Make) -> None:
    dense = {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}}
    plan = made_run(
        stage1={"networks": {"one": dense, "two": {**dense, "training": {"iterations": 5}}}},
        stage2={"plain": {"method": "implanting"}, "slow": {"method": "implanting", "lr": 1e-4}},
        evaluation={
            "shots": [5], "tasks": 10, "queries": 3,
            "tests": [{"networks": ["one", "two"]}, *({"networks": ["one"], "adaptation": name} for name in ("plain", "slow"))],
        },
        activation_maps=None,
    )  # fmt: skip
    assert method_labels(read_settings(plan, read_store(plan))) == {
        ("one", "as-trained"): "DC [one]", ("two", "as-trained"): "DC [two]",
        ("one", "plain"): "DC + IMP [plain]", ("one", "slow"): "DC + IMP [slow]",
    }  # fmt: skip


def test_an_adaptation_that_bears_its_name_on_one_backbone_bears_it_on_all(made_run: Make) -> None:
    plan = made_run(
        stage1={"networks": {name: {"backbone": {"name": name}} for name in ("c128f", "resnet12")}},
        stage2={"plain": {"method": "activation_to_parameter"}, "slow": {"method": "activation_to_parameter", "lr": 1e-4}},
        evaluation={
            "shots": [5], "tasks": 10, "queries": 3,
            "tests": [
                {"networks": ["c128f", "resnet12"], "adaptation": "plain"}, {"networks": ["resnet12"], "adaptation": "slow"},
            ],
        },
        activation_maps=None,
    )  # fmt: skip
    labels = method_labels(read_settings(plan, read_store(plan)))
    assert labels["c128f", "plain"] == labels["resnet12", "plain"] == "GAP + Act2Param [plain]"


def test_a_scale_that_the_run_sets_is_a_deviation_of_dense_queries(made_run: Make) -> None:
    plan = made_run()
    store = read_store(plan)
    records, evaluation = read_settings(plan, store), plan.config.evaluation.model_copy(update={"scale": 5.0})
    chosen = Plan(plan.config.model_copy(update={"evaluation": evaluation}))
    rows = make_rows(chosen, records, store, Published(load_published()))
    told = {row.record.evaluated.query_pooling for row in rows if any("at scale 5 instead" in one for one in row.deviations)}
    silent = {row.record.evaluated.query_pooling for row in rows} - told
    assert (told, silent) == ({"dense"}, {"gap", "gmp"})


def test_what_is_on_record_of_a_network_reaches_its_deviations(made_run: Make) -> None:
    plan = made_run()
    store = read_store(plan)
    records = read_settings(plan, store)
    for words, recorded in (
        ("stage 1 in bfloat16; the paper names no precision", {"precision": "bfloat16"}),
        ("stage 1: 7 iterations of ", {"done": 7}),
    ):
        told = [replace(one, network=replace(one.network, info=one.network.info | recorded)) for one in records]
        before, after = (make_rows(plan, chosen, store, Published(load_published())) for chosen in (records, told))
        assert not any(words in said for row in before for said in row.deviations)
        assert all(any(words in said for said in row.deviations) for row in after)


def test_numbers_on_validation_classes_have_no_published_counterpart(made_run: Make) -> None:
    plan = made_run()
    numbers, store = Published(load_published()), read_store(plan)
    records = read_settings(plan, store)
    assert sum(row.published is not None for row in make_rows(plan, records, store, numbers)) == 5
    chosen = Plan(plan.config.model_copy(update={"evaluation": plan.config.evaluation.model_copy(update={"part": "val"})}))
    rows = make_rows(chosen, records, store, numbers)
    assert all(row.published is None for row in rows)
    assert "tasks drawn from the validation classes instead of the test classes" in rows[0].deviations


def _corrupt(plan: Plan, what: str, edit_record: Edit) -> None:  # noqa: PLR0912
    folder = plan.evaluation_dir(plan.evaluations[0])
    parquet = folder / f"{plan.evaluations[0].settings[0].key}.parquet"
    table = pd.read_parquet(parquet)
    if what == "no settings":
        (folder / "settings.json").unlink()
    elif what == "no json":
        (folder / "settings.json").write_text("{")
    elif what == "no run key":
        first, *rest = json.loads((folder / "settings.json").read_text())["settings"]
        del first["run_key"]
        edit_record(folder / "settings.json", settings=[first, *rest])
    elif what == "no setting":
        info = json.loads((folder / "settings.json").read_text())
        edit_record(folder / "settings.json", settings=info["settings"][1:])
    elif what == "no parquet":
        parquet.unlink()
    elif what == "flipped":
        table.assign(novel=table["novel"] + (table.index == 3)).to_parquet(parquet)
    elif what == "not parquet":
        parquet.write_bytes(b"nothing")
    elif what == "no column":
        table.drop(columns="novel").to_parquet(parquet)
    elif what == "fewer tasks":
        table.iloc[:-1].to_parquet(parquet)
    elif what == "not percent":
        table.assign(novel=table["novel"] * 100).to_parquet(parquet)
    elif what == "no network":
        (plan.network_dir(plan.evaluations[0].network) / "model.json").unlink()
    elif what == "other network":
        edit_record(plan.network_dir(plan.evaluations[0].network) / "model.json", network={})
    if what in ("not parquet", "no column", "fewer tasks", "not percent"):  # what was written so, and not damaged since
        edit_record(folder / "settings.json")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no settings", "settings.json: missing"),
        ("no json", "settings.json: damaged"),
        ("no run key", "settings.json: damaged"),
        ("no setting", "has no setting 1shot-gap-gap"),
        ("no parquet", "1shot-gap-gap.parquet: missing"),
        ("flipped", r"1shot-gap-gap.parquet: damaged \(its hash is not the one in settings.json\)"),
        ("not parquet", "not a table of per-task results"),
        ("no column", "has no column novel"),
        ("fewer tasks", "holds 39 tasks, not 40"),
        ("not percent", "not all percent"),
        ("no network", "model.json: missing"),
        ("other network", "no network settings"),
    ],
)
def test_damaged_input_is_one_line(made_run: Make, edit_record: Edit, what: str, words: str) -> None:
    plan = made_run()
    _corrupt(plan, what, edit_record)
    with pytest.raises(DataError, match=words) as caught:
        read_settings(plan, read_store(plan))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"network_key": "r12-gap-0000000000"}, r"of network r12-gap-0000000000"),
        ({"model_sha256": "other"}, "another training of small-gap"),
        ({"data_hash": "other"}, "other images"),
    ],
)
def test_results_of_another_network_or_other_images_are_refused(
    made_run: Make, edit_record: Edit, values: dict[str, str], words: str
) -> None:
    plan = made_run()
    folder = plan.evaluation_dir(plan.evaluations[0])
    edit_record(folder / "settings.json", **values)
    with pytest.raises(DataError) as caught:
        read_settings(plan, read_store(plan))
    assert str(caught.value) == f"{folder}: evaluated with other settings ({words}); evaluate again"


def test_a_network_trained_anew_asks_for_a_new_evaluation(made_run: Make, edit_record: Edit) -> None:
    plan = made_run()
    edit_record(plan.network_dir(plan.networks[0]) / "model.json", sha256="other")
    with pytest.raises(DataError, match="another training of small-gap"):
        read_settings(plan, read_store(plan))


@pytest.mark.parametrize("part", ["evaluation", "stage2"])
def test_results_of_an_earlier_config_are_refused(made_run: Make, part: str) -> None:
    """The seed of the tasks, or a setting of the implants, is not that of the folder's name."""
    plan = made_run()
    changed = plan.config.model_dump(mode="json")
    if part == "evaluation":
        changed["evaluation"]["seed"] = 7
        number, setting = 0, "1shot-gap-gap"
    else:
        changed["stage2"]["implants"]["epochs"] = 7
        number, setting = -1, "5shot-gap-dense"
    changed = Plan(parse(changed))
    for before, after in zip(plan.evaluations, changed.evaluations, strict=True):
        plan.evaluation_dir(before).rename(changed.evaluation_dir(after))
    name = re.escape(str(changed.evaluation_dir(changed.evaluations[number])))
    with pytest.raises(DataError, match=rf"{name}: evaluated with other settings \({setting}\); evaluate again$"):
        read_settings(changed, read_store(changed))


def test_results_without_an_identity_are_refused(made_run: Make, edit_record: Edit) -> None:
    plan = made_run()
    path = plan.evaluation_dir(plan.evaluations[0]) / "settings.json"
    settings = [{k: v for k, v in record.items() if k != "identity"} for record in json.loads(path.read_text())["settings"]]
    edit_record(path, settings=settings)
    with pytest.raises(DataError, match="evaluate again"):
        read_settings(plan, read_store(plan))


def test_a_network_of_other_images_is_refused(made_run: Make, edit_record: Edit) -> None:
    plan = made_run()
    folder = plan.network_dir(plan.networks[1])
    edit_record(folder / "model.json", data_hash="other")
    with pytest.raises(DataError, match="trained on other images") as caught:
        read_network(plan, plan.networks[1], read_store(plan))
    assert str(caught.value).startswith(f"{folder}: ")


@pytest.mark.parametrize(
    ("iteration", "lines", "scale"),
    [
        (400, [{"iteration": 390, "scale": 11.5}, {"iteration": 400, "validation_accuracy": 5}], 11.5),
        (400, [{"iteration": 400, "scale": 12.5}, {"iteration": 450, "scale": 9}], 12.5),
        (10, [{"iteration": 50, "scale": 12}], None),
        (10, [{"iteration": 10, "loss": 1}], None),
        (10, [], None),
    ],
)  # fmt: skip
def test_the_learned_scale_is_that_of_the_kept_iteration(
    made_run: Make, edit_record: Edit, iteration: int, lines: list[dict[str, float]], scale: float | None
) -> None:
    plan = made_run()
    folder = plan.network_dir(plan.networks[0])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    edit_record(folder / "model.json", iteration=iteration)
    assert read_network(plan, plan.networks[0], read_store(plan)).scale == scale


def test_a_linear_classifier_has_no_scale(made_run: Make, edit_record: Edit) -> None:
    plan = made_run()
    path = plan.network_dir(plan.networks[0]) / "model.json"
    network = json.loads(path.read_text())["network"]
    edit_record(path, network={**network, "classifier": {**network["classifier"], "kind": "linear"}})
    assert read_network(plan, plan.networks[0], read_store(plan)).scale is None


def test_metrics_lines(made_run: Make) -> None:
    plan = made_run()
    path = plan.network_dir(plan.networks[0]) / "metrics.jsonl"
    assert {"iteration", "loss", "validation_accuracy"} <= set(read_lines(path).columns)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_lines(path)
    path.write_text("")
    assert read_lines(path).empty
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        read_lines(path)


def test_store_counts_are_of_the_smallest_and_the_largest_base_class(made_run: Make) -> None:
    plan = made_run()
    size, held_out = plan.config.dataset.image_size, np.zeros(19, dtype=bool)
    held_out[[0, 1, 5]] = True
    write_store(
        plan.store_dir, dataset="fc100", settings={}, labels=np.repeat(np.arange(4), [5, 3, 2, 9]), held_out=held_out,
        classes=[("a", "base"), ("b", "base"), ("c", "val"), ("d", "test")], files=[f"{i}.png" for i in range(19)],
        images=np.zeros((19, size, size, 3), dtype=np.uint8), image_size=size,
    )  # fmt: skip
    record = read_store(plan)
    assert (record.trained_images, record.held_out_images, record.classes) == ((2, 3), (1, 2), (2, 1))


def test_more_tasks_than_were_asked_for_are_refused(made_run: Make, edit_record: Edit) -> None:
    plan = made_run()
    folder = plan.evaluation_dir(plan.evaluations[0])
    parquet = folder / f"{plan.evaluations[0].settings[0].key}.parquet"
    table = pd.read_parquet(parquet)
    pd.concat([table, table.assign(task=table["task"] + len(table))]).to_parquet(parquet)
    edit_record(folder / "settings.json")
    with pytest.raises(DataError, match="holds 80 tasks, not 40"):
        read_settings(plan, read_store(plan))
