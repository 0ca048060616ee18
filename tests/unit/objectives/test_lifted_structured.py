import math

import pytest
import torch

from fewshot.config import LiftedStructuredSettings, NetworkSettings, TrainingSettings
from fewshot.errors import DataError
from fewshot.models.network import Network
from fewshot.objectives import build_objective
from fewshot.objectives.lifted_structured import lifted_structured_loss
from fewshot.sampling import build_sampling

SETTINGS = {"kind": "lifted_structured", "way": 3, "images": 2}


def test_the_loss_is_the_papers_pair_by_pair():
    """Eq. (4) of Oh Song et al. in three loops."""
    torch.manual_seed(0)
    embeddings, labels, margin = torch.randn(7, 4), [0, 0, 1, 1, 1, 2, 2], 1.0

    def distance(i, j):
        return math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(embeddings[i], embeddings[j], strict=True)))

    total, pairs = 0.0, 0
    for i in range(7):
        for j in range(i + 1, 7):
            if labels[i] == labels[j]:
                against = sum(math.exp(margin - distance(i, k)) for k in range(7) if labels[k] != labels[i])
                against += sum(math.exp(margin - distance(j, k)) for k in range(7) if labels[k] != labels[j])
                total += max(0.0, math.log(against) + distance(i, j)) ** 2
                pairs += 1
    found = lifted_structured_loss(embeddings, torch.tensor(labels), margin)
    assert found.item() == pytest.approx(total / (2 * pairs), rel=1e-5)


def test_equal_embeddings_have_a_finite_gradient():
    embeddings = torch.zeros(4, 3, requires_grad=True)
    lifted_structured_loss(embeddings, torch.tensor([0, 0, 1, 1]), 1.0).backward()
    assert torch.isfinite(embeddings.grad).all()


def test_training_draws_classes_apart_and_classes_together():
    settings = NetworkSettings(
        backbone={"name": "c128f", "widths": (4, 4, 8, 8)},
        embedding=8,
        classifier={"kind": "none"},
        training={"objective": SETTINGS},
    )
    torch.manual_seed(0)
    network = Network(settings, 3, 16)
    objective = build_objective(settings.training.objective, network, 0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    images, labels = torch.rand(6, 16, 16, 3) * 255, torch.tensor([0, 0, 1, 1, 2, 2])
    losses = []
    for t in range(30):
        loss, right = objective(network, lambda x: network(network.normalise(x)), images, labels, t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert right == 1


def test_batches_hold_several_images_of_each_class():
    labels = torch.arange(5).repeat_interleave(4)
    batches = build_sampling(TrainingSettings(objective=SETTINGS), torch.arange(20), labels, 0)
    assert batches.batch_size == 6
    for t in range(20):
        rows = batches(t)
        assert (labels[rows].view(3, 2) == labels[rows].view(3, 2)[:, :1]).all()
        assert len(set(rows.tolist())) == 6
    settings = TrainingSettings(objective=SETTINGS | {"images": 5})
    with pytest.raises(DataError, match="asks for 5 images a class, but a training class has only 4"):
        build_sampling(settings, torch.arange(20), labels, 0)
    assert LiftedStructuredSettings(kind="lifted_structured").normalise


def of_embeddings(embeddings, labels, **changes):
    """Loss and share of images right of a network that gives these embeddings."""
    settings = NetworkSettings(
        backbone={"name": "c128f", "widths": (4, 4, 8, 8)},
        classifier={"kind": "none"},
        training={"objective": SETTINGS | changes},
    )
    network = Network(settings, 3, 16)
    objective = build_objective(settings.training.objective, network, 0)
    images = torch.zeros(len(labels), 16, 16, 3)
    return objective(network, lambda _: embeddings[:, :, None, None], images, torch.tensor(labels), 0)


def test_embeddings_have_unit_length_where_the_settings_say_so():
    torch.manual_seed(0)
    embeddings, labels = 3 * torch.randn(6, 4), [0, 0, 1, 1, 2, 2]
    for normalise in (True, False):
        loss, _ = of_embeddings(embeddings, labels, normalise=normalise)
        seen = embeddings / embeddings.norm(dim=1, keepdim=True) if normalise else embeddings
        assert loss.item() == pytest.approx(lifted_structured_loss(seen, torch.tensor(labels), 1.0).item())


def test_an_image_is_right_by_its_nearest_neighbour_and_not_by_itself():
    embeddings = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [5.1, 0.0], [9.0, 0.0], [9.1, 0.0]])
    for labels, right in (([0, 0, 1, 1, 2, 2], 1.0), ([0, 1, 0, 1, 2, 2], 1 / 3)):
        assert of_embeddings(embeddings, labels, normalise=False)[1].item() == pytest.approx(right)


def test_pairs_that_stand_apart_by_more_than_the_margin_cost_nothing():
    embeddings = torch.tensor([[0.0, 0.0], [0.1, 0.0], [9.0, 0.0], [9.1, 0.0]])
    assert lifted_structured_loss(embeddings, torch.tensor([0, 0, 1, 1]), 1.0) == 0
