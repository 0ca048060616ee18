"""Class activation maps: the probabilities against a plain loop, and the four cases."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fewshot import features
from fewshot.checkpoint import load_network, save_network
from fewshot.config import ClassifierSettings
from fewshot.data.store import Store, open_store
from fewshot.errors import ConfigError, DataError
from fewshot.models.network import Network
from fewshot.plan import Plan
from fewshot.report import activation_maps, map_drawing
from fewshot.report.activation_maps import CASES, Example, Subject, draw_activation_maps, find_examples, judge_images

Make = Callable[..., Plan]
SMALL: dict[str, Any] = {
    "dataset": {"name": "fc100", "image_size": 32},
    "stage1": {
        "networks": {
            "small-gap": {"backbone": {"name": "c128f", "widths": [4, 4, 4, 6]}},
            "r12-gap": {"backbone": {"name": "resnet12", "widths": [4, 4, 4, 6]}},
            "r12-dense": {"backbone": {"name": "resnet12", "widths": [4, 4, 4, 6]}, "classifier": {"pooling": "dense"}},
        }
    },
}


def with_networks(plan: Plan, data_hash: str | None = None) -> Store:
    """Random networks in the place of the made-up ones."""
    store = open_store(plan.store_dir)
    for seed, job in enumerate(plan.networks):
        torch.manual_seed(seed)
        network = Network(job.settings, store.num_base, store.image_size, store.mean, store.std).eval()
        info = {"classes": list("abcd"), "image_size": store.image_size, "data_hash": data_hash or store.data_hash}
        save_network(network, plan.network_dir(job), info)
    return store


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    exps = [math.exp(value - top) for value in values]
    return [value / sum(exps) for value in exps]


def pooled_by(network: Network, pooling: str) -> Network:
    """The network as if it had been trained with a pooling."""
    network.settings = network.settings.model_copy(update={"classifier": ClassifierSettings(pooling=pooling)})
    return network


@pytest.mark.parametrize("query", ["gap", "gmp", "dense"])
@pytest.mark.parametrize("prototypes", [True, False])
def test_judgement_is_the_plain_loop(made_run: Make, query: str, prototypes: bool) -> None:
    job = made_run(**SMALL).networks[-1]
    torch.manual_seed(3)
    network = pooled_by(Network(job.settings, 4, 32), query)
    values, truth = torch.randn(5, 4, 6), torch.tensor([0, 1, 2, 2, 1])
    weights = torch.randn(3, 6) if prototypes else None
    with torch.inference_mode():
        predicted, maps, located = Subject("one", network).judge(values, weights, truth)
    vectors = network.classifier.weight.detach() if weights is None else weights
    for i in range(5):
        places = [softmax([network.scale * cosine(values[i, k], w) for w in vectors]) for k in range(4)]
        assert maps[i].tolist() == pytest.approx([place[int(truth[i])] for place in places], abs=1e-5)
        assert float(located[i]) == np.mean([int(np.argmax(place)) == int(truth[i]) for place in places])
        if query == "dense":
            scores = [sum(place[j] for place in places) for j in range(len(vectors))]
        else:
            pooled = values[i].mean(0) if query == "gap" else values[i].max(0).values
            scores = [cosine(pooled, w) for w in vectors]
        assert int(predicted[i]) == int(np.argmax(scores))


def examples(plan: Plan, store: Store, count: int) -> list[Example]:
    pair = [Subject(name, load_network(plan.network_dir(plan.network(name, 0)))[0]) for name in ("r12-gap", "r12-dense")]
    return find_examples(list(judge_images(store, pair, 2)), count)


def test_examples_are_what_their_case_says(made_run: Make) -> None:
    plan = made_run(**SMALL)
    store = with_networks(plan)
    found = examples(plan, store, 3)
    assert len({example.case for example in found}) >= 2
    for example in found:
        population, first, second = example.case
        assert example.row in store.rows("held_out" if population == "base" else "test")
        assert example.label == store.labels[example.row]
        assert (example.predictions[0] == example.label, example.predictions[1] == example.label) == (first, second)
        assert all(values.shape == (2, 2) and 0 <= values.min() <= values.max() <= 1 for values in example.maps)
    for case in CASES:
        members = [example for example in found if example.case == case]
        assert len(members) <= 3
        assert len({example.row for example in members}) == len(members)


def test_all_images_are_judged_each_by_both_networks(made_run: Make) -> None:
    plan = made_run(**SMALL)
    store = with_networks(plan)
    pair = [Subject(name, load_network(plan.network_dir(plan.network(name, 0)))[0]) for name in ("r12-gap", "r12-dense")]
    found = list(judge_images(store, pair, 2))
    base = [one for one in found if one.case[0] == "base"]
    assert sorted(one.row for one in base) == sorted(store.rows("held_out"))
    tasks = activation_maps.ROUNDS * activation_maps.TASKS_A_ROUND
    assert len(found) - len(base) == tasks * 5 * 10  # twelve images a class, two of them support
    rows, truth = np.array([one.row for one in base]), torch.tensor([one.label for one in base])
    for number, subject in enumerate(pair):
        values = features.compute(subject.network, store.images, rows, progress=False)
        with torch.inference_mode():
            predicted, maps, located = subject.judge(values, None, truth)
        assert [one.predictions[number] for one in base] == predicted.tolist()
        np.testing.assert_allclose([one.maps[number].ravel() for one in base], maps, rtol=1e-4, atol=1e-5)
        assert [one.located[number] for one in base] == pytest.approx(located.tolist())


def test_prototypes_are_pooled_as_the_classifier_judges(made_run: Make) -> None:
    network = Network(made_run(**SMALL).networks[-1].settings, 4, 32)
    pairs = {"gap": ("gap", "gap"), "gmp": ("gmp", "gmp"), "dense": ("gap", "dense"), "flatten": ("gap", "gap")}
    for pooling, pair in pairs.items():
        assert Subject("one", pooled_by(network, pooling)).poolings == pair


def test_the_search_is_the_same_each_time(made_run: Make) -> None:
    plan = made_run(**SMALL)
    store = with_networks(plan)
    first, second = examples(plan, store, 2), examples(plan, store, 2)
    assert [(example.case, example.row) for example in first] == [(example.case, example.row) for example in second]


@pytest.mark.parametrize("count", [1, 3])
def test_files(made_run: Make, count: int) -> None:
    plan = made_run(**SMALL, activation_maps={"networks": ["r12-gap", "r12-dense"], "images_per_case": count, "shot": 2})
    with_networks(plan)
    draw_activation_maps(plan)
    folder = plan.results / "figures"
    with Image.open(folder / "activation_maps.png") as image:
        assert min(image.size) > 300
    table = pd.read_csv(folder / "activation_maps.csv")
    assert list(table.columns) == [
        "case", "file", "class", "network", "predicted", "right", "height", "width", "probability",
    ]  # fmt: skip
    assert set(table["network"]) == {"r12-gap", "r12-dense"}
    allowed = ["base, both right", "novel, both right", "novel, only r12-dense right", "novel, only r12-gap right"]
    assert set(table["case"]) <= set(allowed)
    assert all(len(text.split()) == 4 for text in table["probability"])
    assert table["file"].str.match(r"image\d+\.png").all()
    if count == 1:
        names = ("activation_maps.png", "activation_maps.csv", "map_statistics.svg", "map_statistics.csv")
        before = [(folder / name).read_bytes() for name in names]
        draw_activation_maps(plan)
        assert [(folder / name).read_bytes() for name in names] == before


def test_too_few_images_are_refused(made_run: Make) -> None:
    """Twelve images a class cannot give twelve support images and a query."""
    plan = made_run(**SMALL, activation_maps={"networks": ["r12-gap", "r12-dense"], "shot": 12})
    with_networks(plan)
    with pytest.raises(DataError, match=r"too few images in .*, 12; activation_maps needs shot 12 \+ 1 = 13"):
        draw_activation_maps(plan)
    assert not (plan.results / "figures").exists()


@pytest.mark.parametrize(("part", "classes"), [("val", {4, 5}), ("test", {6, 7, 8, 9, 10, 11})])
def test_novel_images_are_of_the_evaluated_part(made_run: Make, part: str, classes: set[int]) -> None:
    tests = [{"networks": ["r12-gap", "r12-dense"], "shots": [2]}]
    evaluation = {"shots": [2], "tasks": 5, "queries": 2, "part": part, "tests": tests}
    maps = {"networks": ["r12-gap", "r12-dense"], "shot": 2, "images_per_case": 3}
    plan = made_run(**{**SMALL, "stage2": {}, "evaluation": evaluation, "activation_maps": maps})
    with_networks(plan)
    draw_activation_maps(plan)
    table = pd.read_csv(plan.results / "figures" / "activation_maps.csv")
    shown = set(table.loc[table["case"].str.startswith("novel"), "class"])
    assert shown
    assert shown <= {f"class{label}" for label in classes}


def test_refusals(made_run: Make) -> None:
    plan = made_run(**SMALL)
    with_networks(plan, data_hash="other")
    with pytest.raises(DataError, match="trained on other data"):
        draw_activation_maps(plan)
    config = plan.config.model_copy(update={"activation_maps": None})
    with pytest.raises(ConfigError, match="names no networks for activation maps"):
        draw_activation_maps(Plan(config))


def test_flattened_features_have_no_maps(made_run: Make) -> None:
    networks = {**SMALL["stage1"]["networks"]}
    networks["r12-gap"] = {**networks["r12-gap"], "classifier": {"pooling": "flatten"}}
    tests = [{"networks": ["r12-dense"], "poolings": ["gap/dense"], "shots": [5]}]
    evaluation = {"shots": [5], "tasks": 5, "queries": 3, "tests": tests}
    with pytest.raises(ConfigError, match="activation_maps: network 'r12-gap' classifies flattened features") as caught:
        made_run(**{**SMALL, "stage1": {"networks": networks}, "evaluation": evaluation, "stage2": {}})
    assert "\n" not in str(caught.value)


def changed_networks(plan_of: Make, **training: Any) -> Plan:
    """Both networks trained with these settings, the larger images of which they saw a part."""
    networks = {name: {**network, "training": training} for name, network in SMALL["stage1"]["networks"].items()}
    tests = [{"networks": ["r12-gap", "r12-dense"], "shots": [2]}]
    evaluation = {"shots": [2], "tasks": 5, "queries": 3, "tests": tests}
    maps = {"networks": ["r12-gap", "r12-dense"], "shot": 2, "images_per_case": 3}
    changes = {"stage1": {"networks": networks}, "stage2": {}, "evaluation": evaluation, "activation_maps": maps}
    return plan_of(**{**SMALL, "dataset": {"name": "fc100", "image_size": 36}, **changes})


def test_base_images_may_be_taken_for_validation_classes_that_were_trained_on(made_run: Make) -> None:
    plan = changed_networks(made_run, classes="base+val", validation={"every": 0, "keep": "last"})
    store = open_store(plan.store_dir)
    always = 5  # the last of four base and two validation classes
    for job in plan.networks:
        network = Network(job.settings, 6, store.image_size, store.mean, store.std).eval()
        with torch.no_grad():
            network.classifier.weight[:] = -1.0
            network.classifier.weight[always] = 1.0  # features after a ReLU are not negative
        info = {"classes": list("abcdef"), "image_size": store.image_size, "data_hash": store.data_hash}
        save_network(network, plan.network_dir(job), info)
    rows = store.rows("held_out")
    subjects = [Subject(job.name, load_network(plan.network_dir(job))[0]) for job in plan.networks]
    found = next(activation_maps._base(store, subjects, np.random.default_rng(0)))
    assert len(found) == len(rows)
    assert {example.predictions for example in found} == {(always, always)}
    assert {example.case for example in found} == {("base", False, False)}
    draw_activation_maps(plan)


def test_a_map_lies_over_the_part_of_the_image_that_its_network_saw(made_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = changed_networks(made_run, augmentation={"crop": 20})
    store = with_networks(plan)
    drawn: dict[str, list[map_drawing.Panel]] = {}
    draw = map_drawing.activation_maps
    monkeypatch.setattr(map_drawing, "activation_maps", lambda cases, *others: drawn.update(cases) or draw(cases, *others))
    draw_activation_maps(plan)
    panels = [panel for panels in drawn.values() for panel in panels]
    assert panels
    central = store.images[:, 8:28, 8:28]
    for panel in panels:
        assert any(np.array_equal(panel.image, image) for image in central)
        assert [part.shape for part in panel.seen] == [(20, 20, 3)] * 2
