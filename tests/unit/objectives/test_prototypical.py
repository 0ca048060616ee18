import math

import pytest
import torch

from fewshot.config import EpisodicSettings, NetworkSettings
from fewshot.models.network import Network
from fewshot.objectives import build_objective

WAY, SHOT, QUERIES = 3, 2, 4


def episodic(**changes):
    return EpisodicSettings.model_validate({"kind": "episodic", "way": WAY, "shot": SHOT, "queries": QUERIES, **changes})


def run(settings, pooling="flatten", iteration=0, broken=False):
    torch.manual_seed(0)
    network = Network(
        NetworkSettings.model_validate(
            {
                "backbone": {"name": "conv64", "widths": [4, 4, 8, 8], "last_pool": False},
                "classifier": {"kind": "none", "pooling": pooling},
                "training": {"objective": settings.as_dict()},
            }
        ),
        9,
        28,
    )
    images = torch.randint(0, 256, (WAY * (SHOT + QUERIES), 28, 28, 3), dtype=torch.uint8)
    features = network(network.normalise(images)) * (math.nan if broken else 1)
    objective = build_objective(settings, network, 0)
    loss, right = objective(network, lambda x: features, images, torch.zeros(len(images), dtype=torch.int64), iteration)
    return objective, features, loss, right


@pytest.mark.parametrize("distance", [{"name": "squared_euclidean"}, {"name": "leaky_squared_euclidean", "s": 5.0, "r": 0.1}])
def test_the_loss_is_equations_2_to_4_and_6_by_loops(distance):
    _, features, loss, right = run(episodic(distance=distance))
    vectors = features.detach().permute(0, 2, 3, 1).flatten(1).double().view(WAY, SHOT + QUERIES, -1)
    terms, hits = [], 0
    for c in range(WAY):
        for query in vectors[c, SHOT:]:
            found = []
            for j in range(WAY):
                prototype = sum(vectors[j, i] for i in range(SHOT)) / SHOT
                d = float(((query - prototype) ** 2).sum())
                found.append(d if "s" not in distance or d <= 5 else 5 + (d - 5) * 0.1)
            weights = [math.exp(min(found) - d) for d in found]
            terms.append(-math.log(weights[c] / sum(weights)))
            hits += found.index(min(found)) == c
    assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-4)
    assert float(right) == pytest.approx(hits / (WAY * QUERIES))


def test_the_whole_network_learns_from_support_and_queries():
    objective, features, loss, _ = run(episodic())
    gradient = torch.autograd.grad(loss, features)[0].flatten(1).norm(dim=1)
    assert (gradient > 0).all()
    assert list(objective.parameters()) == []


def test_histograms_are_kept_at_the_iterations_that_ask_for_them():
    settings = episodic(histograms=[0, 7])
    assert run(settings, iteration=3)[0].record() is None
    kept = run(settings, iteration=7)[0].record()
    assert sum(kept["distance"]["counts"]) == sum(kept["log_gradient"]["counts"]) == WAY * QUERIES * WAY


def test_a_task_that_diverged_has_no_histograms_but_a_loss_that_says_so():
    kept, _, loss, _ = run(episodic(histograms=[0]), broken=True)
    assert kept.record() is None
    assert math.isnan(float(loss))


def test_a_global_pooling_compares_pooled_features():
    flat, pooled = run(episodic())[2], run(episodic(), pooling="gap")[2]
    assert float(pooled) != pytest.approx(float(flat))
