import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot.base_training import prepare, train
from fewshot.checkpoint import load_network
from fewshot.data.trained_images import trained_on, validated_on
from fewshot.errors import DataError
from fewshot.plan import Plan
from fewshot.validation import FewShotAccuracy
from tests.unit.stage1_jobs import CPU, changed, episodic


@pytest.fixture
def job(tiny_plan):
    return tiny_plan.network("resnet12-dense", 0)


def test_a_training_writes_its_folder(tiny_store, job, tmp_path):
    train(tiny_store, job, tmp_path / "seed0", CPU)
    network, info = load_network(tmp_path / "seed0")
    assert info["name"] == "resnet12-dense"
    assert len(info["classes"]) == tiny_store.num_base
    assert info["data_hash"] == tiny_store.data_hash
    assert info["validation"]["iteration"] == info["iteration"]
    lines = [json.loads(line) for line in (tmp_path / "seed0/metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "loss" in line] == [2, 4, 6]
    assert [line["iteration"] for line in lines if "validation_accuracy" in line] == [3, 6]
    assert list(tmp_path.iterdir()) == [tmp_path / "seed0"], "the state is gone when the training is complete"
    np.testing.assert_allclose(network.mean.numpy(), tiny_store.mean, rtol=1e-6)


def test_only_the_images_trained_on_go_to_the_device(tiny_store, job, tmp_path):
    trainer = prepare(tiny_store, job, CPU, tmp_path / "s")
    rows = tiny_store.rows("base")
    assert torch.equal(trainer.images, torch.from_numpy(np.array(tiny_store.images[rows])))
    assert trainer.labels.tolist() == tiny_store.labels[rows].tolist()
    assert set(trainer.batches(0).tolist()) <= set(range(len(rows)))


@pytest.mark.parametrize(
    ("precision", "able", "warned"), [("bfloat16", False, True), ("bfloat16", True, False), ("auto", False, False)]
)
def test_bfloat16_on_a_cpu_without_it_is_warned_of(tiny_store, job, tmp_path, monkeypatch, caplog, precision, able, warned):
    monkeypatch.setattr("fewshot.base_training.multiplies_bfloat16", lambda: able)
    train(tiny_store, changed(job, precision=precision), tmp_path / "net", CPU)
    assert ("no instructions for bfloat16: precision: float32 would be faster" in caplog.text) is warned


def test_validation_classes_that_do_not_do_are_refused_by_name(tiny_store, job, tmp_path):
    validation = job.settings.training.validation.model_copy(update={"way": 50})
    with pytest.raises(DataError, match=r"stage1\.training\.validation\.way is 50"):
        prepare(tiny_store, changed(job, validation=validation), CPU, tmp_path / "s")


def test_best_is_the_best_validation_and_last_is_the_last(tiny_store, job, tmp_path, monkeypatch):
    scores = iter([{"accuracy": 50.0, "ci95": 1.0}, {"accuracy": 40.0, "ci95": 1.0}] * 2)
    monkeypatch.setattr(FewShotAccuracy, "__call__", lambda self, network: next(scores))
    train(tiny_store, job, tmp_path / "best", CPU)
    last = job.settings.training.validation.model_copy(update={"keep": "last"})
    train(tiny_store, changed(job, validation=last), tmp_path / "last", CPU)
    (best, best_info), (end, end_info) = (load_network(tmp_path / name) for name in ("best", "last"))
    assert (best_info["iteration"], end_info["iteration"]) == (3, 6)
    assert not torch.equal(best.classifier.weight, end.classifier.weight)
    assert best_info["validation"] == {"accuracy": 50.0, "ci95": 1.0, "iteration": 3}
    assert end_info["validation"] == {"accuracy": 40.0, "ci95": 1.0, "iteration": 6}


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("killed", [(), (3, 5)])
def test_validation_over_one_task_has_no_interval_and_is_that_of_the_kept_state(tiny_store, job, tmp_path, keep, killed):
    validation = job.settings.training.validation.model_copy(update={"keep": keep, "tasks": 1})
    job = changed(job, validation=validation)
    for at in killed:
        train(tiny_store, job, tmp_path / "net", CPU, stop=lambda t, at=at: t == at)
    train(tiny_store, job, tmp_path / "net", CPU)
    lines = [json.loads(line) for line in (tmp_path / "net/metrics.jsonl").read_text().splitlines()]
    assert not any("validation_ci95" in line for line in lines)
    _, info = load_network(tmp_path / "net")
    accuracies = {line["iteration"]: line["validation_accuracy"] for line in lines if "validation_accuracy" in line}
    assert info["validation"] == {"accuracy": accuracies[info["iteration"]], "ci95": None, "iteration": info["iteration"]}
    assert keep == "best" or info["iteration"] == 6


@pytest.mark.parametrize("network", ["c128f-gap", "resnet12-dense"])
def test_held_out_images_are_never_trained_on(tiny_config, tiny_store, network, tmp_path):
    trainer = prepare(tiny_store, Plan(tiny_config).network(network, 0), CPU, tmp_path / "s")
    rows = trained_on(tiny_store, trainer.settings)[0][torch.cat([trainer.batches(t) for t in range(200)])]
    assert set(rows) == set(tiny_store.rows("base"))
    assert not tiny_store.held_out[rows].any()


def test_tasks_that_the_store_does_not_have_are_refused(tiny_store, job, tmp_path):
    with pytest.raises(DataError, match=r"stage1\.training\.objective\.way is 50, but training has only \d+ classes"):
        prepare(tiny_store, episodic(job, objective={"way": 50}), CPU, tmp_path / "s")
    with pytest.raises(DataError, match=r"asks for 31 images a class, but a training class has only \d+"):
        prepare(tiny_store, episodic(job, objective={"queries": 30}), CPU, tmp_path / "s")


def test_training_on_validation_classes_too_is_an_option(tiny_store, job, tmp_path):
    validation = job.settings.training.validation.model_copy(update={"every": 0, "keep": "last"})
    job = changed(job, validation=validation, classes="base+val")
    trainer = prepare(tiny_store, job, CPU, tmp_path / "s")
    rows = trained_on(tiny_store, trainer.settings)[0][torch.cat([trainer.batches(t) for t in range(200)])]
    assert set(rows) == set(tiny_store.rows("base")) | set(tiny_store.rows("val"))
    train(tiny_store, job, tmp_path / "net", CPU)
    network, info = load_network(tmp_path / "net")
    parts = tiny_store.classes["part"].to_numpy()
    assert info["classes"] == list(tiny_store.classes["name"][parts != "test"])
    assert len(network.classifier.weight) == (parts != "test").sum()


def test_a_training_on_all_classes_may_be_validated_on_held_out_images(tiny_store, job, tmp_path):
    """As paper 004's authors keep the state that is best on images held out of the trained classes."""
    validation = job.settings.training.validation.model_copy(update={"measure": "classification"})
    job = changed(job, validation=validation, classes="base+val")
    trainer = prepare(tiny_store, job, CPU, tmp_path / "s")
    rows = trained_on(tiny_store, trainer.settings)[0][torch.cat([trainer.batches(t) for t in range(300)])]
    held_out = validated_on(tiny_store, trainer.settings)
    assert set(held_out) > set(tiny_store.rows("held_out"))
    assert set(rows) == (set(tiny_store.rows("base")) | set(tiny_store.rows("val"))) - set(held_out)
    train(tiny_store, job, tmp_path / "net", CPU)
    info = load_network(tmp_path / "net")[1]
    assert info["validation"]["iteration"] == info["iteration"]
    assert info["training_images"] == len(set(rows))


def test_training_on_tasks_of_validation_classes_too_is_an_option(tiny_store, job, tmp_path):
    """As Snell's code trains again at the end, for as long as a first training and its patience say."""
    validation = {"every": 0, "keep": "last"}
    job = episodic(job, validation=validation, classes="base+val", iterations=5)
    trainer = prepare(tiny_store, job, CPU, tmp_path / "s")
    rows = trained_on(tiny_store, trainer.settings)[0][torch.cat([trainer.batches(t) for t in range(200)])]
    assert set(tiny_store.labels[rows]) == set(range(tiny_store.num_base)) | set(tiny_store.labels[tiny_store.rows("val")])
    train(tiny_store, job, tmp_path / "net", CPU)
    info = load_network(tmp_path / "net")[1]
    assert (info["done"], info["validation"]) == (5, None)
    assert len(info["classes"]) == (tiny_store.classes["part"] != "test").sum()


def test_the_embedding_layer_counts_among_the_parameters(tiny_store, tiny_plan, tmp_path):
    job = tiny_plan.network("c128f-gap", 0)
    train(tiny_store, replace(job, settings=job.settings.model_copy(update={"embedding": 6})), tmp_path / "net", CPU)
    network, info = load_network(tmp_path / "net")
    classifier = sum(parameter.numel() for parameter in network.classifier.parameters())
    assert info["parameters"] == sum(parameter.numel() for parameter in network.parameters()) - classifier
