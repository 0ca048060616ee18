"""How a setting finds its published number, and what has none."""

from pathlib import Path

import pandas as pd
import pytest

from fewshot.config import ActivationMappingSettings, ImplantingSettings, ImprintingSettings, NetworkSettings, load
from fewshot.plan import Plan
from fewshot.report.comparable import paper_of
from fewshot.report.papers import backbone_name, method_name, stage1_name, stage2_name
from fewshot.report.published import KEY, Number, Published

ROOT = Path(__file__).parents[3]


SIZES = {"miniimagenet": 84, "fc100": 32, "glyphs": 32}


def network(
    name: str = "resnet12", pooling: str = "dense", kind: str = "cosine", wide: int = 0, widths: tuple[int, ...] = ()
) -> NetworkSettings:
    backbone = {"name": name} | ({"wide": wide} if wide else {}) | ({"widths": widths} if widths else {})
    return NetworkSettings.model_validate({"backbone": backbone, "classifier": {"pooling": pooling, "kind": kind}})


def test_paper_001_is_found_for_its_own_network_alone(table: pd.DataFrame) -> None:
    def found(adaptation: dict[str, object], population: str, **changed: object) -> float | None:
        backbone = {"name": "googlenet", "weights": "imagenet"} | {key: changed[key] for key in {"weights"} & set(changed)}
        cropped = {"augmentation": {"crop": changed.get("crop", 224)}}
        data = {"backbone": backbone, "embedding": changed.get("embedding", 64)}
        others = {key: changed[key] for key in {"classifier"} & set(changed)}
        others["training"] = cropped | changed.get("training", {})  # type: ignore[operator]
        network = NetworkSettings.model_validate(data | others)
        settings = ImprintingSettings.model_validate({"method": "imprinting", **adaptation})
        number = Published(table).find(
            "cub", network, settings, image_size=256, way=int(str(changed.get("way", 100))), shot=5, population=population,
            support_pooling="gap", query_pooling="gap",
        )  # fmt: skip
        return None if number is None else number.value

    assert found({}, "novel_in_all") == 39.52
    assert found({"views": 5}, "all") == 52.78
    assert found({"finetuning": {}}, "all") == 59.15
    assert found({"classes": "novel"}, "novel") == found({}, "novel") == 43.00
    assert found({"classes": "novel", "weights": "random", "finetuning": {}}, "novel") == 46.21
    assert found({"finetuning": {}}, "novel") is None
    lifted = {"classifier": {"kind": "none"}, "training": {"objective": {"kind": "lifted_structured"}}}
    for changed in (
        {"way": 25}, {"embedding": 128}, {"weights": "none"}, {"classifier": {"pooling": "gmp"}},
        {"training": {"objective": {"rotation": {}}}}, {"crop": None}, {"crop": 200},
    ):  # fmt: skip
        assert found({}, "all", **changed) is None
    assert found({"classes": "novel"}, "novel", **lifted) is None, "figure 6 prints no numbers"


@pytest.mark.parametrize(
    ("settings", "where", "number"),
    [
        (network(), ("miniimagenet", 1, "novel", "gap/dense"), Number(62.53, 0.19, "paper 000, Table 4")),
        (network(), ("miniimagenet", 5, "novel", "gap/dense"), Number(78.95, 0.13, "paper 000, Tables 2, 4")),
        (network(), ("miniimagenet", 5, "novel", "gmp/gmp"), Number(79.01, 0.13, "paper 000, Tables 1, 2")),
        (network(), ("miniimagenet", 5, "both", "gap/dense"), Number(67.78, 0.10, "paper 000, Table 2")),
        (network(pooling="gap"), ("miniimagenet", 5, "base", "gmp/dense"), Number(77.17, 0.11, "paper 000, Table 2")),
        (network(pooling="gap"), ("miniimagenet", 5, "novel", "gap/gap"), Number(76.40, 0.13, "paper 000, Tables 1, 2, 4")),
        (network("c128f"), ("miniimagenet", 10, "novel", "gmp/gmp"), Number(74.61, 0.13, "paper 000, Table 1")),
        (network(wide=16), ("miniimagenet", 10, "novel", "gap/dense"), Number(82.03, 0.12, "paper 000, Table 4")),
        (network(), ("fc100", 10, "novel", "gap/dense"), Number(61.91, 0.16, "paper 000, Table 5")),
    ],
)
def test_a_setting_finds_its_number(
    table: pd.DataFrame, settings: NetworkSettings, where: tuple[str, int, str, str], number: Number
) -> None:
    dataset, shot, population, pair = where
    support, query = pair.split("/")
    found = Published(table).find(
        dataset, settings, None, image_size=SIZES[dataset], way=5, shot=shot, population=population,
        support_pooling=support, query_pooling=query,
    )  # fmt: skip
    assert found == number


@pytest.mark.parametrize(
    ("training", "query", "value"),
    [("gap/gap", "dense", 79.77), ("gap/gap", "gmp", 74.57), ("gmp/dense", "gmp", 79.37), ("gap/dense", "gap", 79.56)],
)
def test_table_3_is_told_apart_by_the_training_of_stage_2(table: pd.DataFrame, training: str, query: str, value: float) -> None:
    support_training, query_training = training.split("/")
    stage2 = ImplantingSettings.model_validate(
        {"method": "implanting", "support_pooling": support_training, "query_pooling": query_training}
    )
    found = Published(table).find(
        "miniimagenet", network(), stage2, image_size=84, way=5, shot=5, population="novel", support_pooling="gap",
        query_pooling=query,
    )  # fmt: skip
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    ("settings", "dataset", "way", "pair"),
    [
        (network(), "glyphs", 5, "gap/dense"),
        (network(), "fc100", 10, "gap/dense"),
        (network(), "fc100", 5, "gmp/gmp"),
        (network("conv64"), "fc100", 5, "gap/dense"),
        (network(pooling="gap", kind="linear"), "fc100", 5, "gap/gap"),
    ],
)
def test_what_the_paper_did_not_do_has_no_number(
    table: pd.DataFrame, settings: NetworkSettings, dataset: str, way: int, pair: str
) -> None:
    support, query = pair.split("/")
    found = Published(table).find(
        dataset, settings, None, image_size=SIZES[dataset], way=way, shot=5, population="novel", support_pooling=support,
        query_pooling=query,
    )  # fmt: skip
    assert found is None


@pytest.mark.parametrize(
    ("changed", "known"),
    [
        ({}, True),
        ({"schedule": {"kind": "cosine"}, "iterations": 3}, True),
        ({"objective": {"rotation": {}}}, False),
        ({"objective": {"distillation": {"teacher": "other"}}}, False),
        ({"objective": {"label_smoothing": 0.1}}, False),
        ({"classes": "base+val", "validation": {"every": 0, "keep": "last"}}, False),
        (None, False),
    ],
)
def test_numbers_stand_beside_the_papers_loss_and_classes_alone(
    table: pd.DataFrame, changed: dict[str, object] | None, known: bool
) -> None:
    """None: an embedding layer."""
    more = {"embedding": 64} if changed is None else {"training": changed}
    settings = NetworkSettings.model_validate({"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}, **more})
    found = Published(table).find(
        "fc100", settings, None, image_size=32, way=5, shot=5, population="novel", support_pooling="gap", query_pooling="dense"
    )
    assert (found is not None) == known


@pytest.mark.parametrize(
    ("settings", "size", "implant_width", "known"),
    [
        (network(), 84, None, True),
        (network(), 84, 16, True),
        (network(wide=16), 84, None, True),
        (network(), 32, None, False),
        (network(), 80, 16, False),
        (network(wide=8), 84, None, False),
        (network(widths=(16, 32, 64, 128)), 84, None, False),
        (network(widths=(64, 160, 320, 640)), 84, 16, False),
        (network("c128f", widths=(32, 32, 64, 64)), 84, None, False),
        (network(), 84, 8, False),
    ],
)
def test_numbers_stand_beside_the_papers_networks_and_images_alone(
    table: pd.DataFrame, settings: NetworkSettings, size: int, implant_width: int | None, known: bool
) -> None:
    stage2 = None if implant_width is None else ImplantingSettings(method="implanting", width=implant_width)
    support, query = ("gmp", "gmp") if settings.backbone.name == "c128f" else ("gap", "dense")
    found = Published(table).find(
        "miniimagenet", settings, stage2, image_size=size, way=5, shot=5, population="novel", support_pooling=support,
        query_pooling=query,
    )  # fmt: skip
    assert (found is not None) == known


@pytest.mark.parametrize(
    ("run", "cells"),
    [
        ("000_table1_networks", 12), ("000_table2_poolings", 24), ("000_table3_implants", 12), ("000_table4_methods", 11),
        ("000_table5_fc100", 8),
    ],
)  # fmt: skip
def test_the_papers_runs_evaluate_every_cell_of_their_table_and_no_other(own: pd.DataFrame, run: str, cells: int) -> None:
    """Under the key by which it finds its number, with the paper's queries and numbers of tasks."""
    plan = Plan(load(ROOT / "config" / "runs" / f"{run}.yaml"))
    config, numbers = plan.config, Published(own)
    found: dict[tuple[object, ...], tuple[float, int]] = {}
    for job in plan.evaluations:
        stage2 = config.stage2.get(job.adaptation)
        adapted = ("as-trained", "", "") if stage2 is None else (stage2.method, stage2.support_pooling, stage2.query_pooling)
        settings, way = job.network.settings, config.evaluation.way
        trained = (config.dataset.name, backbone_name(settings), stage1_name(settings), *adapted, way)
        for setting in job.settings:
            for population in setting.populations:
                number = numbers.find(
                    config.dataset.name, settings, stage2, image_size=config.dataset.image_size, way=way, shot=setting.shot,
                    population=population, support_pooling=setting.support_pooling, query_pooling=setting.query_pooling,
                )  # fmt: skip
                if number is not None:
                    key = (*trained, setting.shot, population, setting.support_pooling, setting.query_pooling)
                    found[key] = (number.value, setting.tasks)
    wanted = own[own["table"] == run.removeprefix("000_table")[0]]
    assert len(wanted) == len(found) == cells
    missing = [row for row in wanted[[*KEY, "value"]].itertuples(index=False, name=None) if row[:-1] not in found]
    assert missing == []
    for row in wanted[[*KEY, "value"]].itertuples(index=False, name=None):
        assert found[row[:-1]] == (row[-1], 10_000 if row[3] == "as-trained" else 5_000)
    assert config.evaluation.queries == 30


# --- papers 002 and 004 ----------------------------------------------------------------------------------------------


def find(table: pd.DataFrame, run: str, name: str, shot: int, adaptation: str | None = None, **other: object) -> Number | None:
    config = load(ROOT / "config" / "runs" / f"{run}.yaml")
    settings = config.stage1.networks[name]
    pooling = settings.classifier.pooling
    asked = {"image_size": config.dataset.image_size, "way": config.evaluation.way, "shot": shot, **other}
    return Published(table).find(
        config.dataset.name, settings, config.stage2[adaptation] if adaptation else None, population="novel",
        support_pooling=pooling, query_pooling=pooling, **asked,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("run", "name", "shot", "value"),
    [
        ("002_table1_omniglot", "protonet-1shot", 1, 95.14),
        ("002_table1_omniglot", "lsed-1shot", 1, 95.65),
        ("002_table1_omniglot", "lsed-1shot-uniform", 1, 95.65),
        ("002_table1_omniglot", "protonet-5shot", 5, 98.54),
        ("002_table1_omniglot", "lsed-5shot", 5, 98.70),
        ("002_table1_miniimagenet", "protonet-1shot", 1, 48.34),
        ("002_table1_miniimagenet", "lsed-1shot", 1, 51.74),
        ("002_table1_miniimagenet", "protonet-5shot", 5, 67.94),
        ("002_table1_miniimagenet", "lsed-5shot", 5, 68.39),
    ],
)
def test_the_runs_of_paper_002_find_its_numbers(table: pd.DataFrame, run: str, name: str, shot: int, value: float) -> None:
    assert find(table, run, name, shot) == Number(value, None, "paper 002, Table 1")


def test_other_leaks_shots_and_sizes_find_none(table: pd.DataFrame) -> None:
    assert find(table, "002_table1_miniimagenet", "lsed-s0-r01-1shot", 1) is None
    assert find(table, "002_table1_omniglot", "protonet-1shot", 5) is None, "trained for another number of shots"
    assert find(table, "002_table1_omniglot", "protonet-1shot", 1, way=5) is None
    assert find(table, "002_table1_miniimagenet", "protonet-1shot", 1, image_size=32) is None


def changed(run: str, name: str, **training: object) -> NetworkSettings:
    data = load(ROOT / "config" / "runs" / f"{run}.yaml").stage1.networks[name].as_dict()
    return NetworkSettings.model_validate(data | {"training": data["training"] | training})


def test_a_network_trained_on_validation_classes_too_has_the_numbers_of_paper_002_where_its_authors_do_so() -> None:
    more = {"classes": "base+val", "validation": {"every": 0, "keep": "last"}}
    omniglot, mini = (changed(f"002_table1_{name}", "protonet-1shot", **more) for name in ("omniglot", "miniimagenet"))
    assert paper_of("omniglot", omniglot, None, 28, 1) == "002"
    assert paper_of("miniimagenet", mini, None, 84, 1) is None


def test_a_network_with_more_than_its_papers_loss_has_none_of_paper_004s_numbers() -> None:
    stage2 = load(ROOT / "config" / "runs" / "004_miniimagenet.yaml").stage2["mapped"]
    usual = changed("004_miniimagenet", "simple-80")
    assert paper_of("miniimagenet", usual, stage2, 80) == "004"
    more = changed("004_miniimagenet", "simple-80", objective={"rotation": {}})
    assert paper_of("miniimagenet", more, stage2, 80) is None


@pytest.mark.parametrize(("crop", "papers"), [(None, {"000", "002"}), (64, set())])
def test_images_are_of_the_size_that_the_network_sees(crop: int | None, papers: set[str]) -> None:
    augmentation = {"crop": crop} if crop else {}
    gap = NetworkSettings.model_validate({"backbone": {"name": "resnet12"}, "training": {"augmentation": augmentation}})
    tasks = changed("002_table1_miniimagenet", "protonet-1shot", augmentation=augmentation)
    assert {paper_of("miniimagenet", one, None, 84, 1) for one in (gap, tasks)} - {None} == papers


def test_crops_of_larger_images_are_of_the_papers_size() -> None:
    gap = {"backbone": {"name": "resnet12"}, "training": {"augmentation": {"crop": 84}}}
    assert paper_of("miniimagenet", NetworkSettings.model_validate(gap), None, 96) == "000"


@pytest.mark.parametrize(
    ("name", "adaptation", "shot", "number"),
    [
        ("simple-80", "mapped", 1, (54.53, 0.40)), ("simple-80", "mapped", 5, (67.87, 0.20)),
        ("wrn-80", "mapped", 1, (59.60, 0.41)), ("wrn-80", "mapped", 5, (73.74, 0.19)), ("simple-64", "mapped", 1, None),
        ("simple-80", "mapped-views", 1, (56.01, 0.59)), ("simple-80", "mapped-views", 5, (70.70, 0.44)),
        ("wrn-80", "mapped-views", 1, (63.62, None)), ("wrn-80", "mapped-views", 5, (78.83, None)),
    ],
)  # fmt: skip
def test_the_run_of_paper_004_finds_its_numbers_for_80_classes_alone(
    table: pd.DataFrame, name: str, adaptation: str, shot: int, number: tuple[float, float | None] | None
) -> None:
    found = find(table, "004_miniimagenet", name, shot, adaptation)
    assert found == (None if number is None else Number(*number, "paper 004, README"))


def test_random_views_have_none_of_the_numbers_of_ten_crops() -> None:
    network = changed("004_miniimagenet", "simple-80")
    views = ActivationMappingSettings(method="activation_to_parameter", views=10)
    assert paper_of("miniimagenet", network, views, 92) is None
    crops = views.model_copy(update={"views": "ten_crops"})
    assert paper_of("miniimagenet", network, crops, 92) == "004"
    assert (stage2_name(views), stage2_name(crops)) == ("activation_to_parameter-views", "activation_to_parameter-ten_crops")
    assert [method_name(network, one).rpartition(" (")[2] for one in (views, crops)] == ["random views)", "multi-view)"]


@pytest.mark.parametrize(("layout", "paper"), [("post_activation", "004"), ("pre_activation", None)])
def test_a_wide_network_of_another_layout_is_not_that_of_paper_004(layout: str, paper: str | None) -> None:
    mapped = load(ROOT / "config" / "runs" / "004_miniimagenet.yaml").stage2["mapped"]
    assert paper_of("miniimagenet", changed("004_miniimagenet", "wrn-80"), mapped, 80, 1) == "004"
    other = changed("004_miniimagenet", "wrn-80").model_dump()
    other["backbone"]["layout"] = layout
    assert paper_of("miniimagenet", NetworkSettings.model_validate(other), mapped, 80, 1) == paper
