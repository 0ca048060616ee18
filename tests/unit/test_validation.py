import pytest
import torch

from fewshot import validation as module
from fewshot.config import NetworkSettings
from fewshot.device import float32_convolutions
from fewshot.models.network import Network
from fewshot.validation import Validation


def test_validation_sees_only_validation_classes(tiny_store, tiny_plan):
    job = tiny_plan.network("resnet12-dense", 0)
    settings = job.settings.training.validation.model_copy(update={"images_per_class": 8})
    validation = Validation(tiny_store, settings, 0)
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
    assert 0 <= Validation(tiny_store, job.settings.training.validation, 0)(network)["accuracy"] <= 100
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
    Validation(tiny_store, job.settings.training.validation, 0)(network)
    assert seen == [False]
    with pytest.raises(ZeroDivisionError), float32_convolutions():
        _ = 1 / 0
    assert torch.backends.cudnn.allow_tf32
