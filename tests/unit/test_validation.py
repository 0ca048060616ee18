import numpy as np
import pytest
import torch

from fewshot import nearest_prototype
from fewshot import validation as module
from fewshot.config import NetworkSettings
from fewshot.device import float32_convolutions
from fewshot.errors import NotFiniteError
from fewshot.features import Features, compute
from fewshot.intervals import interval
from fewshot.models.network import Network
from fewshot.validation import FewShotAccuracy, HeldOutAccuracy, build_validation


def test_validation_sees_only_validation_classes(tiny_store, tiny_plan):
    job = tiny_plan.network("resnet12-dense", 0)
    settings = job.settings.training.validation.model_copy(update={"images_per_class": 8})
    validation = FewShotAccuracy(tiny_store, settings, 0)
    parts = tiny_store.classes["part"].to_numpy()[tiny_store.labels[validation.rows]]
    assert (parts == "val").all()
    assert len(validation.rows) == 8 * (tiny_store.classes["part"] == "val").sum()


@pytest.mark.parametrize(("pooling", "support"), [("gap", "gap"), ("gmp", "gmp"), ("dense", "gap"), ("flatten", "flatten")])
def test_validation_pools_as_the_network_is_tested(tiny_store, tiny_plan, monkeypatch, pooling, support):
    seen = []
    right = module.Evaluator.accuracies
    monkeypatch.setattr(
        module.Evaluator, "accuracies", lambda self, tasks, *pair: seen.append(pair[:2]) or right(self, tasks, *pair)
    )
    job = tiny_plan.network("resnet12-dense", 0)
    settings = NetworkSettings.model_validate({"backbone": {"name": "c128f"}, "classifier": {"pooling": pooling}})
    network = Network(settings, tiny_store.num_base, tiny_store.image_size)
    assert 0 <= FewShotAccuracy(tiny_store, job.settings.training.validation, 0)(network)["accuracy"] <= 100
    assert seen == [(support, pooling)]


def test_what_is_reported_while_training_has_no_rounded_convolutions(tiny_store, tiny_plan, monkeypatch):
    seen = []
    right = module.compute
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as a training on CUDA has it
    monkeypatch.setattr(
        module, "compute", lambda *args, **more: seen.append(torch.backends.cudnn.allow_tf32) or right(*args, **more)
    )
    job = tiny_plan.network("resnet12-dense", 0)
    network = Network(job.settings, tiny_store.num_base, tiny_store.image_size)
    FewShotAccuracy(tiny_store, job.settings.training.validation, 0)(network)
    assert seen == [False]
    with pytest.raises(ZeroDivisionError), float32_convolutions():
        _ = 1 / 0
    assert torch.backends.cudnn.allow_tf32


def test_validation_is_of_the_network_as_it_is_tested_and_changes_nothing_of_it(tiny_store, tiny_plan):
    job = tiny_plan.network("resnet12-dense", 0)
    torch.manual_seed(0)
    network = Network(job.settings, tiny_store.num_base, tiny_store.image_size).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    validation = FewShotAccuracy(tiny_store, job.settings.training.validation, 0)
    found = validation(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert found == validation(network.eval())
    assert not network.training


def test_dense_queries_are_validated_at_the_networks_scale(tiny_store, tiny_plan, monkeypatch):
    scales, right = [], module.Evaluator.accuracies
    monkeypatch.setattr(module.Evaluator, "accuracies", lambda self, *args: scales.append(args[3]) or right(self, *args))
    job = tiny_plan.network("resnet12-dense", 0)
    network = Network(job.settings, tiny_store.num_base, tiny_store.image_size)
    with torch.no_grad():
        network.classifier.scale.fill_(37.0)
    FewShotAccuracy(tiny_store, job.settings.training.validation, 0)(network)
    assert scales == [37.0]


def test_a_network_trained_on_tasks_is_validated_by_its_distance(tiny_store, tiny_plan):
    settings = NetworkSettings.model_validate(
        {
            "backbone": {"name": "conv64", "widths": [4, 4, 8, 8]},
            "classifier": {"kind": "none", "pooling": "flatten"},
            "training": {"objective": {"kind": "episodic"}},
        }
    )
    torch.manual_seed(0)
    network = Network(settings, tiny_store.num_base, tiny_store.image_size)
    validation = FewShotAccuracy(tiny_store, tiny_plan.network("resnet12-dense", 0).settings.training.validation, 0)
    with torch.no_grad():  # long prototypes attract by angle and repel by distance
        network.backbone.convolutions[-1][1].bias.copy_(torch.linspace(0, 3, 8))
    found, tasks = validation(network)["accuracy"], validation.episodes
    features = Features(compute(network.eval(), validation.images, progress=False), validation.rows, {})
    cpu = torch.device("cpu")
    wanted = nearest_prototype.accuracies(features, tasks, "flatten", settings.distance, cpu)["novel"].mean()
    by_angle = module.Evaluator(features, cpu).accuracies(tasks, "flatten", "flatten", 1.0)["novel"].mean()
    assert found == pytest.approx(wanted)
    assert wanted != pytest.approx(by_angle)


def test_another_seed_validates_on_other_tasks(tiny_store, tiny_plan):
    settings = tiny_plan.network("resnet12-dense", 0).settings.training.validation
    first, again, other = (FewShotAccuracy(tiny_store, settings, seed).episodes.query for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("classifier", "limit"),
    [({"pooling": "gap"}, None), ({"pooling": "dense"}, None), ({"kind": "linear", "pooling": "flatten"}, 2)],
)
def test_held_out_images_are_classified_as_one_at_a_time_would_be(tiny_store, classifier, limit):
    training = {"validation": {"measure": "classification", "images_per_class": limit}}
    backbone = {"name": "c128f", "widths": [4, 4, 8, 8]}
    settings = NetworkSettings.model_validate({"backbone": backbone, "classifier": classifier, "training": training})
    torch.manual_seed(0)
    network = Network(settings, tiny_store.num_base, tiny_store.image_size).train()
    found = build_validation(tiny_store, settings.training, 0)(network)
    assert network.training
    network.eval()
    right = []
    for label in range(tiny_store.num_base):
        rows = [row for row in tiny_store.rows("held_out") if tiny_store.labels[row] == label]
        for row in rows[:limit]:
            logits = network.logits(network.normalise(torch.from_numpy(np.array(tiny_store.images[row]))[None]))[0]
            right.append(100.0 * (int(logits.softmax(-1).mean(0).argmax()) == label))
    mean, ci95 = interval(np.array(right))
    assert found == pytest.approx({"accuracy": mean, "ci95": ci95})
    assert 0 < found["accuracy"] < 100


def test_a_network_with_features_that_are_not_finite_is_refused(tiny_store):
    settings = NetworkSettings.model_validate({"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}})
    network = Network(settings, tiny_store.num_base, tiny_store.image_size)
    with torch.no_grad():
        network.classifier.weight[1, 0] = torch.nan
    with pytest.raises(NotFiniteError):
        HeldOutAccuracy(tiny_store, settings.training)(network)
