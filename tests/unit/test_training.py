import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot.base_training import prepare, train
from fewshot.checkpoint import load_network
from fewshot.config import (
    AugmentationSettings,
    ClassificationSettings,
    NetworkSettings,
    OptimizerSettings,
    ScheduleSettings,
    ValidationSettings,
)
from fewshot.data.augment import augment
from fewshot.errors import DataError, FewshotError, NotFiniteError
from fewshot.plan import NetworkJob
from fewshot.training import Trainer
from fewshot.validation import FewShotAccuracy
from tests.unit.stage1_jobs import CPU, changed, episodic


@pytest.fixture
def job(tiny_plan):
    return tiny_plan.network("resnet12-dense", 0)


def test_learning_happens(tiny_store, job):
    trainer = prepare(tiny_store, changed(job, iterations=60, batch_size=32), CPU, tiny_store.path / "none")
    trainer.network.train()
    losses = [float(trainer.step(t)[0]) for t in range(60)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.3


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("killed", [(1,), (3,), (2, 4, 5)])
def test_a_killed_training_ends_in_the_same_bytes(tiny_store, job, tmp_path, keep, killed):
    validation = job.settings.training.validation.model_copy(update={"keep": keep})
    job = changed(job, validation=validation)
    train(tiny_store, job, tmp_path / "whole", CPU)
    for at in killed:
        train(tiny_store, job, tmp_path / "broken", CPU, stop=lambda t, at=at: t == at)
        assert not (tmp_path / "broken").exists()
    train(tiny_store, job, tmp_path / "broken", CPU)
    name = "model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()
    volatile = {"images_per_second"}
    curves = [
        [{k: v for k, v in json.loads(line).items() if k not in volatile} for line in path.read_text().splitlines()]
        for path in (tmp_path / "whole/metrics.jsonl", tmp_path / "broken/metrics.jsonl")
    ]
    assert curves[0] == curves[1]


def test_the_same_seed_gives_the_same_network_and_another_does_not(tiny_store, job, tmp_path):
    other = NetworkJob(job.name, job.key, 1, job.settings)
    for name, one in (("a", job), ("b", job), ("c", other)):
        train(tiny_store, one, tmp_path / name, CPU)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_a_state_of_other_settings_or_a_damaged_one_is_refused(tiny_store, job, tmp_path):
    train(tiny_store, job, tmp_path / "net", CPU, stop=lambda t: t == 2)
    with pytest.raises(DataError, match="other settings, data or code"):
        train(tiny_store, changed(job, iterations=9), tmp_path / "net", CPU)
    path = tmp_path / "net.state"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="training state damaged"):
        train(tiny_store, job, tmp_path / "net", CPU)


def test_a_loss_that_is_not_finite_stops_with_the_iteration_and_writes_nothing(tiny_store, job, tmp_path):
    optimizer = job.settings.training.optimizer.model_copy(update={"lr": 1e30})
    with pytest.raises(FewshotError, match=r"the loss is (nan|inf) at iteration \d+; lower"):
        train(tiny_store, changed(job, optimizer=optimizer, save_every=1e-9), tmp_path / "net", CPU)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("save_every", [1e-9, 600])
def test_parameters_that_are_not_finite_after_a_finite_loss_are_refused(tiny_store, job, tmp_path, monkeypatch, save_every):
    """The loss is of before the step: the last step of all has none behind it."""
    step, last = Trainer.step, job.settings.training.iterations - 1

    def broken(self, iteration):
        found = step(self, iteration)
        if iteration == last:
            next(self.network.parameters()).data.fill_(float("nan"))
        return found

    monkeypatch.setattr(Trainer, "step", broken)
    job = changed(job, save_every=save_every, validation=ValidationSettings(every=0, keep="last"))
    with pytest.raises(FewshotError, match=rf"the parameters are not finite at iteration {last + 1}; lower stage1\.training"):
        train(tiny_store, job, tmp_path / "net", CPU)
    assert not (tmp_path / "net").exists()
    if save_every < 1:
        monkeypatch.setattr(Trainer, "step", step)
        left = prepare(tiny_store, job, CPU, tmp_path / "net.state")
        assert left.progress.iteration == last, "the state of the iteration before is kept"
        left.require_finite()


def test_features_that_are_not_finite_at_a_validation_name_the_training(tiny_store, job, tmp_path, monkeypatch):
    def broken(network):
        raise NotFiniteError("the network gives features that are not finite")

    monkeypatch.setattr("fewshot.base_training.build_validation", lambda *args: broken)
    with pytest.raises(
        FewshotError, match=r"the features are not finite at iteration 3; lower stage1\.training\.optimizer\.lr"
    ):
        train(tiny_store, job, tmp_path / "net", CPU)


def test_bfloat16_rounds_the_backbone_and_not_the_classifier(tiny_store, job, tmp_path):
    trainer = prepare(tiny_store, changed(job, precision="bfloat16"), CPU, tmp_path / "s")
    seen = []
    trainer.network.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trainer.network.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    loss, _ = trainer.step(0)
    assert seen == [torch.bfloat16, torch.float32]
    assert torch.isfinite(loss)


@pytest.mark.parametrize("killed", [(), (2, 5)])
def test_rotation_and_distillation_resume_in_the_same_bytes(tiny_store, job, tmp_path, killed):
    train(tiny_store, job, tmp_path / "teacher", CPU)
    network, info = load_network(tmp_path / "teacher")
    objective = ClassificationSettings.model_validate(
        {"rotation": {"views": "one"}, "distillation": {"teacher": "resnet12-dense"}}
    )
    student = replace(changed(job, objective=objective), teacher=job)
    for at in killed:
        train(tiny_store, student, tmp_path / "net", CPU, stop=lambda t, at=at: t == at, teacher=(network, info["sha256"]))
    train(tiny_store, student, tmp_path / "net", CPU, teacher=(network, info["sha256"]))
    train(tiny_store, student, tmp_path / "whole", CPU, teacher=(network, info["sha256"]))
    (_, found), (_, whole) = load_network(tmp_path / "net"), load_network(tmp_path / "whole")
    assert found["sha256"] == whole["sha256"] != info["sha256"]
    assert found["teacher"] == {"name": "resnet12-dense", "sha256": info["sha256"]}


def test_an_episodic_training_survives_a_kill_with_its_histograms(tiny_store, job, tmp_path):
    job = episodic(job, objective={"histograms": [0, 4]})
    train(tiny_store, job, tmp_path / "whole", CPU)
    train(tiny_store, job, tmp_path / "broken", CPU, stop=lambda t: t == 3)
    train(tiny_store, job, tmp_path / "broken", CPU)
    whole, broken = (tmp_path / name / "model.safetensors" for name in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes()
    for folder in (whole.parent, broken.parent):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["iteration"] for line in lines if "distance" in line] == [0, 4]
    network, info = load_network(tmp_path / "whole")
    assert not [name for name, _ in network.named_parameters() if "classifier" in name]
    assert info["validation"]["accuracy"] > 0


def test_episodic_learning_happens(tiny_store, job):
    still = {"optimizer": {"name": "adam", "lr": 0.003, "weight_decay": 0}, "schedule": {"kind": "constant"}}
    job = episodic(job, objective={"way": 6}, augmentation={"crop_padding": 0, "flip": False}, **still)
    backbone = {"name": "conv64", "widths": [16, 16, 16, 16]}
    settings = NetworkSettings.model_validate(job.settings.as_dict() | {"backbone": backbone})
    trainer = prepare(tiny_store, NetworkJob(job.name, "c", 0, settings), CPU, tiny_store.path / "none")
    trainer.network.train()
    right = [float(trainer.step(t)[1]) for t in range(160)]
    assert np.mean(right[-40:]) > np.mean(right[:40]) + 0.08


@pytest.mark.parametrize(
    ("scores", "kept", "done"),
    [
        ({2: 40.0, 4: 60.0, 6: 50.0, 8: 59.0}, 4, 8),
        ({2: 40.0, 4: 100.0, 6: 100.0, 8: 100.0}, 8, 8),  # of equals the later is kept, but it is no better one
    ],
)
def test_patience_ends_a_training_and_a_resumed_one_at_the_same_iteration(
    tiny_store, job, tmp_path, monkeypatch, scores, kept, done
):
    validation = job.settings.training.validation.model_copy(update={"every": 2, "patience": 2})
    job = changed(job, validation=validation, iterations=40)
    for name, stops in (("whole", ()), ("broken", (5, 8))):
        trainers = []

        def score(self, network, trainers=trainers):
            return {"accuracy": scores.get(trainers[-1].progress.iteration, 0.0), "ci95": 1.0}

        monkeypatch.setattr(FewShotAccuracy, "__call__", score)
        original = Trainer.__init__
        monkeypatch.setattr(Trainer, "__init__", lambda self, *a, **k: (original(self, *a, **k), trainers.append(self))[0])  # noqa: B023
        for at in stops:
            train(tiny_store, job, tmp_path / name, CPU, stop=lambda t, at=at: t == at)
        train(tiny_store, job, tmp_path / name, CPU)
        monkeypatch.undo()
        _, info = load_network(tmp_path / name)
        assert (info["iteration"], info["done"], info["iterations"]) == (kept, done, 40)
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "broken/model.safetensors").read_bytes()


def test_a_step_is_sgd_by_hand(tiny_store, job, tmp_path):
    """The images that the sampling names with their own labels, at the rate of this iteration, the head at its multiple."""
    plain = OptimizerSettings(lr=0.1, momentum=0, nesterov=False, weight_decay=0, head_factor=10.0)
    still = {
        "augmentation": AugmentationSettings(crop_padding=0, flip=False),
        "schedule": ScheduleSettings(kind="constant", warmup=5),
    }
    trainer = prepare(tiny_store, changed(job, optimizer=plain, **still), CPU, tmp_path / "s")
    own = copy.deepcopy(trainer.network).train()
    trainer.network.train()
    trainer.step(2)  # of five of warm-up: three fifths of the rate
    rows = tiny_store.rows("base")[trainer.batches(2)]
    logits = own.logits(own.normalise(torch.from_numpy(np.array(tiny_store.images[rows]))))
    labels = torch.from_numpy(tiny_store.labels[rows])
    loss = -sum(logits[i, k].log_softmax(-1)[label] for i, label in enumerate(labels) for k in range(logits.shape[1]))
    gradients = torch.autograd.grad(loss / logits.shape[:2].numel(), list(own.parameters()))
    after = dict(trainer.network.named_parameters())
    for (name, before), gradient in zip(own.named_parameters(), gradients, strict=True):
        rate = 0.06 * (10 if name.startswith("classifier") else 1)
        torch.testing.assert_close(after[name], before - rate * gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_every_seed_and_iteration_augments_in_its_own_way(tiny_store, job, tmp_path, monkeypatch):
    seeds = []
    monkeypatch.setattr("fewshot.training.augment", lambda *args: seeds.append(args[-1].initial_seed()) or augment(*args))
    for seed in (0, 1):
        trainer = prepare(tiny_store, NetworkJob(job.name, job.key, seed, job.settings), CPU, tmp_path / "s")
        for iteration in (0, 1):
            trainer.step(iteration)
    assert len(set(seeds)) == 4


def test_what_is_logged_and_when(tiny_store, job, tmp_path, monkeypatch):
    """Every second iteration, every third a validation, and both at the last; images a second of the training alone."""
    passed = [0.0]

    def step(self, iteration):
        passed[0] += 2
        return torch.tensor(1.5), torch.tensor(0.25)

    def validated(self, network):
        passed[0] += 100
        return {"accuracy": 50.0}

    monkeypatch.setattr("fewshot.training.time.monotonic", lambda: passed[0])
    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(FewShotAccuracy, "__call__", validated)
    trainer = prepare(tiny_store, changed(job, iterations=7, schedule=ScheduleSettings(kind="cosine")), CPU, tmp_path / "s")
    assert trainer.run(lambda iteration: False)
    lines = trainer.progress.metrics
    logged = [line for line in lines if "loss" in line]
    assert [line["iteration"] for line in logged] == [2, 4, 6, 7]
    assert [line["iteration"] for line in lines if "validation_accuracy" in line] == [3, 6, 7]
    assert [line["lr"] for line in logged] == [trainer.learning_rate(iteration) for iteration in (1, 3, 5, 6)]
    assert {(line["accuracy"], line["images_per_second"]) for line in logged} == {(25.0, 4.0)}


def test_a_state_is_saved_as_time_goes_by_but_none_that_is_not_finite(tiny_store, job, tmp_path):
    optimizer = job.settings.training.optimizer.model_copy(update={"lr": 1e30})
    job = changed(job, optimizer=optimizer, save_every=1e-9, log_every=100)  # so that only the last iteration is looked at
    with pytest.raises(FewshotError, match="the last good state"):
        train(tiny_store, job, tmp_path / "net", CPU)
    left = prepare(tiny_store, job, CPU, tmp_path / "net.state")
    assert left.progress.iteration == 1
    assert all(parameter.isfinite().all() for parameter in left.network.parameters())


def test_seconds_count_the_work_before_a_kill(tiny_store, job, tmp_path, monkeypatch):
    passed, step = [0.0], Trainer.step

    def slow(self, iteration):
        passed[0] += 10
        return step(self, iteration)

    monkeypatch.setattr("fewshot.training.time.monotonic", lambda: passed[0])
    monkeypatch.setattr(Trainer, "step", slow)
    train(tiny_store, job, tmp_path / "net", CPU, stop=lambda t: t == 4)
    passed[0] += 1000  # nobody at work
    train(tiny_store, job, tmp_path / "net", CPU)
    assert load_network(tmp_path / "net")[1]["seconds"] == 60
