"""The figure of classes by activations and by parameters."""

import numpy as np
import pandas as pd
import pytest
import torch

from fewshot.checkpoint import load_network
from fewshot.config import parse
from fewshot.data.store import open_store
from fewshot.errors import ConfigError
from fewshot.plan import Plan
from fewshot.report.class_vectors import class_parameters, draw_class_vectors, mean_activations, rank_correlation, vector_table

CONFIG = {
    "run": "vectors",
    "device": "cpu",
    "dataset": {"name": "glyphs", "classes": 20, "images_per_class": 20, "image_size": 16, "held_out": 0.25},
    "stage1": {
        "training": {"iterations": 3, "batch_size": 16, "validation": {"every": 0, "keep": "last"}},
        "networks": {"small": {"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}}},
    },
    "evaluation": {"way": 3, "queries": 5, "shots": [1], "tasks": 3, "tests": [{"networks": ["small"]}]},
    "class_vectors": {"network": "small", "images_per_class": 7},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, run_stages):
    plan = Plan(parse(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        yield run_stages(plan, last="train")


def test_the_figure_has_every_class_on_both_sides(run):
    draw_class_vectors(run)
    table = pd.read_csv(run.results / "figures" / "class_vectors.csv")
    store = open_store(run.store_dir)
    names = store.classes["name"][: store.num_base].tolist()
    for side in ("activation", "parameter"):
        assert table.loc[table["side"] == side, "class"].tolist() == names
    assert np.isfinite(table[["x", "y"]].to_numpy()).all()
    assert (run.results / "figures" / "class_vectors.svg").read_text().startswith("<?xml")


def test_means_are_over_the_first_training_images_by_a_loop(run):
    store = open_store(run.store_dir)
    network, _ = load_network(run.network_dir(run.networks[0]))
    found = mean_activations(network, store, 7)
    rows = store.rows("base")
    for label in range(store.num_base):
        total = 0
        for row in rows[store.labels[rows] == label][:7]:
            image = torch.from_numpy(np.array(store.images[row : row + 1]))
            total = total + network(network.normalise(image)).mean((2, 3))[0]
        np.testing.assert_allclose(found[label], (total / 7).detach().numpy(), rtol=1e-4, atol=1e-6)
    assert class_parameters(network).shape == found.shape


def test_the_rank_correlation_knows_equal_and_unrelated_vectors(rng):
    vectors = rng.normal(size=(40, 12)).astype(np.float32)
    rotation = np.linalg.qr(rng.normal(size=(12, 12)))[0].astype(np.float32)
    assert rank_correlation(vectors, 3 * vectors @ rotation) == pytest.approx(1, abs=1e-3)
    assert abs(rank_correlation(vectors, rng.normal(size=(40, 12)).astype(np.float32))) < 0.15


def test_the_same_seed_gives_the_same_places(rng):
    vectors = rng.normal(size=(2, 9, 5)).astype(np.float32)
    first, again = (vector_table(vectors[0], vectors[1], list("abcdefghi"), 0) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_vectors": {"network": "other"}}, "class_vectors names the network 'other'"),
        (
            {"stage1": {"networks": {"small": {"backbone": {"name": "c128f"}, "classifier": {"pooling": "dense"}}}}},
            "has no class weights of one activation",
        ),
    ],
)
def test_networks_without_such_weights_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        parse({**CONFIG, **change})
