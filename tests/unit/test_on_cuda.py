"""Every stage on a pretended CUDA device (`tests/unit/pretended_cuda.py`): results as on the CPU, no operation that mixes
devices, no waiting for the device where it would cost, and no loops over tasks."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from benchmarks import device as checks
from benchmarks import evaluation as benchmarked
from benchmarks import measure, stage1, stage2
from benchmarks.measure import Options, machine
from fewshot import adaptation, nearest_prototype, training
from fewshot.base_training import prepare, train
from fewshot.checkpoint import load_network
from fewshot.classification import classify
from fewshot.config import ActivationMappingSettings, ImplantingSettings, LeakySquaredEuclideanSettings, parse
from fewshot.data.store import open_store
from fewshot.device import select_device
from fewshot.episodes import load as load_episodes
from fewshot.evaluation import Evaluator, class_weights
from fewshot.features import load as load_features
from fewshot.methods import activation_to_parameter, implanting
from fewshot.models.inference import batch_size
from fewshot.new_classes import add_classes
from fewshot.optimization import build_optimizer
from fewshot.plan import Plan
from fewshot.report import activation_maps, class_vectors
from fewshot.validation import FewShotAccuracy, HeldOutAccuracy
from tests.unit.pretended_cuda import CUDA, PretendedCuda

STILL = {"every": 0, "keep": "last"}
SMALL = [4, 4, 8, 8]
DATASET = {"name": "glyphs", "classes": 20, "images_per_class": 20, "image_size": 18, "held_out": 0.25}
TRAINING = {
    "iterations": 6, "batch_size": 16, "log_every": 3, "precision": "float32", "optimizer": {"lr": 0.02},
    "validation": {"every": 3, "way": 3, "shot": 2, "queries": 5, "tasks": 20},
}  # fmt: skip
CROPPED = {"crop": 16, "resized_crop": [0.3, 1.0], "color_jitter": 0.3, "lighting": 0.1}
TASKS = {
    "run": "tasks",
    "dataset": DATASET,
    "stage1": {
        "training": TRAINING,
        "networks": {
            "gap": {"backbone": {"name": "c128f", "widths": SMALL}, "training": {"augmentation": CROPPED}},
            "dense": {
                "backbone": {"name": "resnet12", "widths": SMALL}, "classifier": {"pooling": "dense"},
                "training": {"objective": {"rotation": {"views": "all"}}, "augmentation": {"resized_crop": [0.4, 1.0]}},
            },
            "student": {
                "backbone": {"name": "resnet12", "widths": SMALL}, "classifier": {"kind": "linear", "pooling": "flatten"},
                "training": {
                    "objective": {"rotation": {"views": "one"}, "distillation": {"teacher": "dense"}, "label_smoothing": 0.1},
                    "optimizer": {"name": "adam", "lr": 0.001},
                },
            },
            "leaky": {
                "backbone": {"name": "conv64", "widths": SMALL}, "classifier": {"kind": "none", "pooling": "flatten"},
                "training": {
                    "objective": {
                        "kind": "episodic", "way": 4, "shot": 1, "queries": 3, "histograms": [0, 4],
                        "distance": {"name": "leaky_squared_euclidean", "s": 1.0},
                    },
                    "optimizer": {"name": "rmsprop", "lr": 0.001},
                },
            },
            "lifted": {
                "backbone": {"name": "resnet12", "widths": SMALL}, "embedding": 6, "classifier": {"kind": "none"},
                "training": {
                    "objective": {"kind": "lifted_structured", "way": 4, "images": 3},
                    "optimizer": {"name": "adamw", "lr": 0.001, "head_factor": 10},
                },
            },
        },
    },
    "stage2": {
        "implants": {"method": "implanting", "width": 2, "epochs": 3},
        "dense-implants": {"method": "implanting", "width": 2, "epochs": 3, "query_pooling": "dense", "batch_norm": False},
        "mapped": {"method": "activation_to_parameter", "iterations": 20},
        "views": {"method": "activation_to_parameter", "iterations": 20, "views": 2},
        "crops": {"method": "activation_to_parameter", "iterations": 20, "views": "ten_crops"},
    },
    "evaluation": {
        "way": 3, "shots": [1, 2], "queries": 5, "tasks": 20,
        "tests": [
            {"networks": ["gap"], "populations": ["novel", "base", "both"], "poolings": ["gap/gap", "gmp/dense"]},
            {"networks": ["dense"], "populations": ["novel", "base", "both"], "poolings": ["gap/dense", "gmp/gap"]},
            {"networks": ["student"], "poolings": ["flatten/flatten"]},
            {"networks": ["leaky"], "poolings": ["flatten/flatten"]},
            {"networks": ["lifted"]},
            {"networks": ["dense"], "adaptation": "implants", "shots": [2], "tasks": 10, "poolings": ["gap/gap", "gap/dense"]},
            {"networks": ["dense"], "adaptation": "dense-implants", "shots": [2], "tasks": 10, "poolings": ["gmp/gmp"]},
            {"networks": ["gap"], "adaptation": "mapped", "populations": ["novel", "both"], "tasks": 4},
            {"networks": ["gap"], "adaptation": "views", "populations": ["novel"], "tasks": 4},
            {"networks": ["gap"], "adaptation": "crops", "shots": [2], "tasks": 4},
        ],
    },
}  # fmt: skip
FINETUNING = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "rmsprop", "lr": 0.001}}
EXTENDED = {
    "run": "extended",
    "dataset": DATASET,
    "stage1": {
        "training": {**TRAINING, "validation": STILL},
        "networks": {"small": {"backbone": {"name": "c128f", "widths": SMALL}}},
    },
    "stage2": {
        "plain": {"method": "imprinting"},
        "views": {"method": "imprinting", "views": 2},
        "random": {"method": "imprinting", "weights": "random", "finetuning": FINETUNING},
        "nearest": {"method": "imprinting", "weights": "nearest"},
        "tuned": {"method": "imprinting", "finetuning": FINETUNING},
        "transfer": {"method": "imprinting", "classes": "novel", "finetuning": {**FINETUNING, "balanced": False}},
        "joint": {"method": "joint_training", "finetuning": FINETUNING},
    },
    "evaluation": {
        "way": "all", "queries": "all", "shots": [2], "tasks": 2,
        "tests": [
            *({"networks": ["small"], "adaptation": name, "populations": ["novel", "all", "base_in_all"]}
              for name in ("plain", "views", "random", "nearest", "tuned", "joint")),
            {"networks": ["small"], "adaptation": "transfer"},
        ],
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=[TASKS, EXTENDED], ids=["tasks", "extended"])
def both(request, tmp_path_factory, run_stages):
    """A run on the CPU and on the pretended device, the later stages on the CPU's networks: their plans and folders.

    Both with fused optimizers, which CUDA takes: what they round otherwise is not to be told from what goes wrong.
    """
    folders = {name: tmp_path_factory.mktemp(name) for name in ("cpu", "cuda", "trained")}
    plans = {name: Plan(parse({**request.param, "device": name})) for name in ("cpu", "cuda")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "build_optimizer", lambda *args, fused: build_optimizer(*args, fused=True))
        patch.chdir(folders["cpu"])
        run_stages(plans["cpu"])
        patch.setattr(training, "build_optimizer", build_optimizer)
        patch.chdir(folders["cuda"])
        with PretendedCuda() as gpu:
            run_stages(plans["cuda"], last="train")
            networks = Path(plans["cuda"].resources) / "networks"
            shutil.copytree(networks, folders["trained"] / "networks")
            shutil.rmtree(networks)
            shutil.copytree(folders["cpu"] / networks, networks)
            run_stages(plans["cuda"], first="extract")
    return plans, folders, gpu


def close(first, second):
    """The values of two lists of lines agree, but for times."""
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"images_per_second"}:
            assert one[name] == pytest.approx(other[name], rel=2e-3, abs=1e-4), name


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_stage_1_ends_where_it_ends_on_the_cpu(both):
    plans, folders, _ = both
    for job in plans["cpu"].networks:
        inside = plans["cpu"].network_dir(job).relative_to(plans["cpu"].resources)
        on_cpu, on_cuda = folders["cpu"] / plans["cpu"].resources / inside, folders["trained"] / inside
        (network, info), (other, other_info) = load_network(on_cpu), load_network(on_cuda)
        assert (other_info["device"], other_info["precision"]) == ("CUDA (pretended)", "TF32")
        assert info["device"].startswith("CPU")
        for name, value in network.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
        if "histograms" not in job.settings.training.objective.model_dump():
            close(lines(on_cuda / "metrics.jsonl"), lines(on_cpu / "metrics.jsonl"))


def test_features_predictions_and_accuracies_are_those_of_the_cpu(both):
    plans, folders, _ = both
    plan = plans["cpu"]
    for job in plan.networks:
        for part in plan.feature_parts(job):
            first, second = (load_features(folders[name] / plan.features_dir(job, part)) for name in ("cpu", "cuda"))
            np.testing.assert_allclose(first.values, second.values, rtol=1e-4, atol=1e-5)
    for job in plan.adaptations:
        first, second = (folders[name] / plan.adapted_dir(job) for name in ("cpu", "cuda"))
        close(lines(second / "metrics.jsonl"), lines(first / "metrics.jsonl"))
        file = "features.npy" if job.settings.gives == "features" else "predictions.npy"
        one, other = np.load(first / file), np.load(second / file)
        if job.settings.gives == "features":
            np.testing.assert_allclose(one, other, rtol=5e-3, atol=5e-3)
        else:
            assert (one == other).mean() > 0.99, job.name
    for job in plan.evaluations:
        for setting in job.settings:
            first, second = (
                pd.read_parquet(folders[name] / plan.evaluation_dir(job) / f"{setting.key}.parquet") for name in ("cpu", "cuda")
            )
            assert list(first) == list(second)
            assert (np.abs(first - second) < 1e-6).to_numpy().mean() > 0.97, setting.key


ONLY_TASKS = pytest.mark.parametrize("both", [TASKS], indirect=True, ids=["tasks"])


@pytest.fixture
def store(both, monkeypatch):
    plans, folders, _ = both
    monkeypatch.chdir(folders["cpu"])
    return open_store(plans["cpu"].store_dir)


def on_both(function):
    """What a function of a device returns on the CPU and on the pretended device."""
    expected = function(torch.device("cpu"))
    with PretendedCuda():
        return expected, function(CUDA)


@ONLY_TASKS
def test_activations_that_figures_show_are_those_of_the_cpu(both, store):
    plan = both[0]["cpu"]

    def shown(device):
        subjects = [activation_maps._subject(plan, store, name, device) for name in ("gap", "dense")]
        assert {subject.network.mean.device.type for subject in subjects} == {device.type}
        means = class_vectors.mean_activations(subjects[0].network, store, 5)
        judged = list(activation_maps.judge_images(store, subjects, 2))
        return judged, means, class_vectors.class_parameters(subjects[0].network)

    (examples, *vectors), (others, *other_vectors) = on_both(shown)
    assert examples
    for one, other in zip(examples, others, strict=True):
        assert replace(one, maps=(), located=()) == replace(other, maps=(), located=())
        assert one.located == pytest.approx(other.located)
        for first, second in zip(one.maps, other.maps, strict=True):
            np.testing.assert_allclose(first, second, atol=1e-4)
    for one, other in zip(vectors, other_vectors, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture
def pictures(store, tmp_path):
    """Class folders of new classes, and images to classify."""
    rows = store.rows("test")
    for name, chosen in (("owl", rows[:3]), ("wren", rows[-2:])):
        (tmp_path / "known" / name).mkdir(parents=True)
        for row in chosen:
            Image.fromarray(store.images[row]).save(tmp_path / "known" / name / f"{row}.png")
    (tmp_path / "new").mkdir()
    for row in rows[3:7]:
        Image.fromarray(store.images[row]).save(tmp_path / "new" / f"{row}.png")
    return tmp_path


@ONLY_TASKS
@pytest.mark.parametrize(("name", "implants"), [("gap", False), ("dense", True), ("leaky", False)])
def test_ones_own_images_are_classified_as_on_the_cpu(both, store, pictures, name, implants):
    plan = both[0]["cpu"]
    implant = ImplantingSettings(method="implanting", width=2, epochs=2) if implants else None
    folder = plan.network_dir(plan.network(name, 0))
    expected, found = on_both(
        lambda device: classify(folder, pictures / "known", pictures / "new", implant=implant, device=device.type)
    )
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.nearest, expected.nearest)
    if expected.maps is not None:
        np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-3, atol=1e-4)


@ONLY_TASKS
def test_classes_are_added_as_on_the_cpu(both, store, pictures):
    plan = both[0]["cpu"]
    folder = plan.network_dir(plan.network("gap", 0))

    def added(device):
        add_classes(folder, pictures / "known", pictures / device.type, device)
        return load_network(pictures / device.type)[0].classifier.weight

    torch.testing.assert_close(*on_both(added))


@pytest.mark.parametrize("part", ["stage1", "stage2", "evaluation"])
def test_the_benchmark_runs(part, tmp_path, monkeypatch):
    """Everything that it measures, at sizes that say nothing."""
    monkeypatch.setattr(stage1, "BATCH", {"cuda": {16: 2}})
    monkeypatch.setattr(stage1, "CASES", (("c128f", 16),))
    monkeypatch.setattr("fewshot.adaptation.CHUNK", {"cuda": 2, "cpu": 2})
    monkeypatch.setattr(stage2, "EPOCHS", 10)
    options = Options(CUDA, 0.0, 20, 800, tmp_path)
    monkeypatch.setattr(measure, "CALLS", {"cuda": 1})
    with PretendedCuda():
        assert machine(CUDA)["device"] == "CUDA (pretended)"
        monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
        if part == "stage1":
            monkeypatch.setattr(stage1, "matmul_rate", lambda *_: 1e9)
            monkeypatch.setattr(stage1, "_grow", lambda *_: [])
            rows, _ = stage1.run(options)
            assert [row.setting for row in rows[:2]] == ["matrix product, TF32", "matrix product, bfloat16"]
            assert len(rows) == 2 + 3
        elif part == "stage2":
            rows = stage2.compare(16, options)
        else:
            rows = [
                benchmarked.compare(benchmarked.draw(800, 10, 4), ("gap", query), options, ("novel", "base", "both"))
                for query in ("gap", "dense")
            ]
    assert all(row.rate > 0 for row in rows)
    assert all(row.processor_ratio is None for row in rows), "the processor's time says nothing of the device's"


def test_the_checks_of_a_first_device_pass(tmp_path, monkeypatch):
    """And one that fails is a row, and no end of the others."""
    monkeypatch.setattr(checks, "TASKS", 2)
    monkeypatch.setattr(checks, "_waiting_is_an_error", nullcontext)  # CUDA's own way; below, `waits` counts
    monkeypatch.setattr(checks, "TRAININGS", {name: checks.TRAININGS[name] for name in ("dense", "episodic")})
    with PretendedCuda():
        rows, _ = checks.run(Options(CUDA, 0.0, 20, 800, tmp_path))
        assert [row.note.split(":")[0] for row in rows[:7]] == ["as on the CPU"] * 7, rows
        assert [row.rate > 0 for row in rows[7:]] == [True, True]
        monkeypatch.setattr(checks, "_close", lambda *_: checks._require(False, "far"))
        monkeypatch.setattr(checks, "TRAININGS", {})
        said = [row.note for row in checks.run(Options(CUDA, 0.0, 20, 800, tmp_path))[0]]
        assert said[:2] == ["FAILED: ArithmeticError: far"] * 2
        assert said[2].startswith("as on the CPU")
    assert checks.run(Options(torch.device("cpu"), 0.0, 20, 800, tmp_path))[0][0].setting == "left out: no CUDA device"


# --- what waits for the device, and what is launched ---------------------------------------------------------------------


def waits(gpu, function):
    before = len(gpu.waits)
    function()
    return gpu.waits[before:]


def launched(gpu, function):
    before = gpu.calls.total()
    function()
    return gpu.calls.total() - before


@ONLY_TASKS
@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("name", list(TASKS["stage1"]["networks"]))
def test_an_iteration_of_training_waits_for_nothing(both, store, name, precision, tmp_path):
    job = both[0]["cuda"].network(name, 0)
    settings = job.settings.training.model_copy(update={"precision": precision})
    job = replace(job, settings=job.settings.model_copy(update={"training": settings}))
    with PretendedCuda() as gpu:
        teacher = None
        if job.teacher is not None:
            teacher = load_network(both[0]["cuda"].network_dir(job.teacher), CUDA)[0], "hash"
        trainer = prepare(store, job, CUDA, tmp_path / "none", teacher)
        trainer.network.train()
        assert {parameter.device.type for parameter in trainer.network.parameters()} == {"cuda"}
        assert trainer.bfloat16 == (precision == "auto")
        trainer.step(0)
        assert waits(gpu, lambda: [trainer.step(t) for t in (1, 2)]) == []
        assert waits(gpu, lambda: float(trainer.step(3)[0])) == [("aten::_local_scalar_dense", ANY)]


@ONLY_TASKS
@pytest.mark.parametrize("name", ["dense", "leaky"])
def test_validation_leaves_the_features_on_the_device(both, store, name):
    plan = both[0]["cuda"]
    job = plan.network(name, 0)
    with PretendedCuda() as gpu:
        network, _ = load_network(plan.network_dir(job), CUDA)
        validation = FewShotAccuracy(store, job.settings.training.validation, 0)
        places = [place for _, place in waits(gpu, lambda: validation(network)) if "features.py" in place]
        assert len(places) == 1
        assert len(validation.rows) <= batch_size(CUDA, store.image_size)  # one batch: its images go up, nothing comes down


@ONLY_TASKS
def test_classification_of_held_out_images_waits_once(both, store):
    plan = both[0]["cuda"]
    job = plan.network("dense", 0)
    validation = HeldOutAccuracy(store, job.settings.training)
    with PretendedCuda() as gpu:
        network, _ = load_network(plan.network_dir(job), CUDA)
        places = waits(gpu, lambda: validation(network))
        assert len([place for _, place in places if "validation.py" in place]) == 1
        found = validation(network)
    assert found == validation(load_network(plan.network_dir(job))[0])


@ONLY_TASKS
@pytest.mark.parametrize("name", list(TASKS["stage1"]["networks"]))
def test_a_training_killed_on_cuda_goes_on_there(both, store, name, tmp_path):
    job = both[0]["cuda"].network(name, 0)
    with PretendedCuda():
        teacher = None
        if job.teacher is not None:
            teacher = load_network(both[0]["cuda"].network_dir(job.teacher), CUDA)[0], "hash"
        for folder, stops in (("whole", ()), ("broken", (2, 4))):
            for at in stops:
                train(store, job, tmp_path / folder, CUDA, stop=lambda t, at=at: t == at, teacher=teacher)
            train(store, job, tmp_path / folder, CUDA, teacher=teacher)
    whole, broken = (tmp_path / folder / "model.safetensors" for folder in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes()


@ONLY_TASKS
@pytest.mark.parametrize(("first", "second"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_training_goes_on_on_the_other_device_with_its_own_optimizer(both, store, first, second, tmp_path):
    job = both[0]["cuda"].network("student", 0)

    def begun(kind):
        device = torch.device(kind)
        teacher = load_network(both[0]["cuda"].network_dir(job.teacher), device)[0], "hash"
        return prepare(store, job, device, tmp_path / "state", teacher)

    def on(kind, function):
        with PretendedCuda() if kind == "cuda" else nullcontext():
            return function(begun(kind))

    assert not on(first, lambda trainer: trainer.run(lambda t: t == 2))

    def check(trainer):
        assert trainer.progress.iteration == 2
        assert all(group["fused"] == (second == "cuda") for group in trainer.optimizer.param_groups)
        kept = trainer.optimizer.state.values()
        assert {state["exp_avg"].device.type for state in kept} == {second}
        assert {state["step"].device.type for state in kept} == {second}
        return trainer.run(lambda t: False)

    assert on(second, check)


@ONLY_TASKS
def test_implants_are_launched_for_all_tasks_at_once(both, store):
    job = both[0]["cuda"].network("dense", 0)
    with PretendedCuda() as gpu:
        network, _ = load_network(both[0]["cuda"].network_dir(job), CUDA)
        stream = implanting.frozen_stream(network, store.images[:40])
        assert {values.device.type for values in (*stream.inputs, stream.features)} == {"cuda"}

        def adapted(tasks, epochs=3):
            settings = ImplantingSettings(method="implanting", width=2, epochs=epochs)
            images = torch.arange(20).repeat(tasks, 1).to(CUDA)
            return lambda: implanting.adapt_tasks(stream, images, 2, 3, list(range(tasks)), settings, 0, lambda *_: None)

        assert launched(gpu, adapted(2)) == launched(gpu, adapted(5))
        assert waits(gpu, adapted(3, epochs=2)) == waits(gpu, adapted(3, epochs=6)) != []  # those of the start alone
        assert gpu.calls["aten::col2im"] > 0
        assert gpu.calls["aten::im2col"] == 0, "on CUDA it launches a kernel for every map"


@ONLY_TASKS
@pytest.mark.parametrize("query", ["gap", "dense"])
def test_evaluation_is_launched_for_all_tasks_at_once(both, store, query):
    plan, folders, _ = both[0]["cuda"], *both[1:]
    job = plan.network("dense" if query == "dense" else "gap", 0)
    features = load_features(folders["cpu"] / plan.features_dir(job))
    episodes = load_episodes(plan.episodes_path(plan.episodes(2)))
    with PretendedCuda() as gpu:
        network, _ = load_network(plan.network_dir(job), CUDA)
        evaluator = Evaluator(features, CUDA, class_weights(network, store.labels[features.rows]))

        def evaluated(tasks):
            return lambda: evaluator.accuracies(episodes, "gap", query, 10.0, ("novel", "base", "both"), tasks)

        evaluated(1)()  # what is computed once
        assert launched(gpu, evaluated(4)) == launched(gpu, evaluated(20))
        assert waits(gpu, evaluated(4)) == waits(gpu, evaluated(20)) != []
        distance = LeakySquaredEuclideanSettings(name="leaky_squared_euclidean")

        def nearest(tasks):
            return lambda: nearest_prototype.accuracies(features, episodes, "gap", distance, CUDA, tasks)

        assert launched(gpu, nearest(4)) == launched(gpu, nearest(20))


def test_a_mapping_is_trained_without_waiting_but_for_its_curve():
    settings = ActivationMappingSettings(method="activation_to_parameter", iterations=activation_to_parameter.CURVE + 10)
    values, labels = torch.rand(12, 6), torch.arange(3).repeat(4)
    expected, curve = activation_to_parameter.train(activation_to_parameter.ClassActivations(values, labels), settings, 0)
    with PretendedCuda() as gpu:
        classes = activation_to_parameter.ClassActivations(values.to(CUDA), labels.to(CUDA))
        found = []
        seen = waits(gpu, lambda: found.append(activation_to_parameter.train(classes, settings, 0)))
        assert [what for what, _ in seen if "to the device" not in what] == ["tolist"] * 2
        assert len(seen) <= 2 + 4  # and the mapping's parameters, before it begins
        (mapping, points), *_ = found
        torch.testing.assert_close(mapping.cpu().state_dict(), expected.state_dict())
    close(points, curve)


def test_memory_that_pytorch_keeps_counts_as_free():
    with PretendedCuda() as gpu:
        gpu.free, gpu.reserved, gpu.allocated = 4 << 30, 64 << 30, 60 << 30
        assert adaptation._memory(CUDA) == 2 << 30
        gpu.free = 40 << 30
        assert adaptation._memory(CUDA) == adaptation.CHUNK_BYTES["cuda"]


@pytest.mark.parametrize("training", [True, False])
def test_only_convolutions_of_a_training_are_rounded(training):
    with PretendedCuda():
        assert select_device("cuda", tensor_float_32=training) == torch.device("cuda")
        assert torch.backends.cudnn.allow_tf32 == training
        assert torch.get_float32_matmul_precision() == "highest"
