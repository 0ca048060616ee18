import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot import adaptation, base_training, episodes
from fewshot.adapted import load_adapted
from fewshot.checkpoint import load_network
from fewshot.errors import DataError
from fewshot.evaluation import Evaluator
from fewshot.features import Features, compute
from fewshot.files import write_record
from fewshot.methods import implanting

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(tiny_store, tiny_config, tmp_path_factory):
    from fewshot.plan import Plan

    folder = tmp_path_factory.mktemp("net")
    job = Plan(tiny_config).adaptations[0]
    base_training.train(tiny_store, job.network, folder / "seed0", CPU)
    network, info = load_network(folder / "seed0")
    return network, info["sha256"], tiny_store, episodes.draw(tiny_store, job.episodes), job


def test_the_folder_holds_every_tasks_channels_support_first(world, tmp_path):
    network, sha256, store, tasks, job = world
    adaptation.adapt(*world, tmp_path / "out")
    features = load_adapted(tmp_path / "out", sha256, tasks)
    assert features.shape == (10, 3 * (2 + 5), 1, 2)
    assert features.dtype == np.float16
    for t in (0, 9):
        images = np.concatenate([tasks.support[t].ravel(), tasks.query[t].ravel()])
        stream = implanting.frozen_stream(network, store.images[images])
        implants, statistics = implanting.train_implants(
            stream, torch.arange(6).view(1, 3, 2), [t], job.settings, job.network.seed
        )
        with torch.no_grad():
            expected = implants(stream.take(torch.arange(21)[None]), statistics)[0]
        np.testing.assert_allclose(features[t].astype(np.float32), expected.numpy(), atol=5e-3)
    record = json.loads((tmp_path / "out/adapt.json").read_text())
    curve = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in curve] == [1, 2, 3]
    assert record["loss_first"] == curve[0]["loss"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_seconds_count_the_frozen_stream(world, tmp_path, monkeypatch):
    stream, passed = adaptation._frozen_stream, [0.0]
    monkeypatch.setattr(adaptation.time, "monotonic", lambda: passed[0])

    def slow(*args):
        passed[0] += 100
        return stream(*args)

    monkeypatch.setattr(adaptation, "_frozen_stream", slow)
    adaptation.adapt(*world, tmp_path / "out")
    assert json.loads((tmp_path / "out/adapt.json").read_text())["seconds"] == 100


@pytest.mark.parametrize("factor", [1e6, float("inf")])
def test_features_too_large_for_what_is_stored_are_refused(world, tmp_path, monkeypatch, factor):
    """Finite in float32 is not enough: infinite ones made every cosine NaN, and every answer the first class."""
    adapt_tasks = implanting.adapt_tasks
    monkeypatch.setattr(implanting, "adapt_tasks", lambda *args: factor * (1 + adapt_tasks(*args).abs()))
    with pytest.raises(DataError, match=r"not finite in half precision in tasks 0\.\.\d+; lower stage2\.implants\.lr$"):
        adaptation.adapt(*world, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_compared_in_one_process_share_the_frozen_stream(world, tmp_path, monkeypatch):
    network, sha256, store, tasks, job = world
    adaptation._last.clear()
    calls, frozen_stream = [], implanting.frozen_stream

    def counted(network, images):
        calls.append(len(images))
        return frozen_stream(network, images)

    monkeypatch.setattr(implanting, "frozen_stream", counted)
    other = replace(job, settings=job.settings.model_copy(update={"lr": 0.01}))
    adaptation.adapt(*world, tmp_path / "first")
    adaptation.adapt(network, sha256, store, tasks, other, tmp_path / "second")
    assert len(calls) == 1
    adaptation._last.clear()
    adaptation.adapt(network, sha256, store, tasks, other, tmp_path / "alone")
    alone, second = (np.load(tmp_path / name / "features.npy") for name in ("alone", "second"))
    np.testing.assert_array_equal(second, alone)
    adaptation.adapt(network, "another", store, tasks, job, tmp_path / "third")
    assert len(calls) == 3


def test_a_killed_adaptation_goes_on_to_the_same_bytes(world, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "CHUNK", {"cpu": 4})
    adaptation.adapt(*world, tmp_path / "whole")
    calls, train_implants = [], implanting.train_implants

    def killed(*args):
        calls.append(args[2])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train_implants(*args)

    monkeypatch.setattr(implanting, "train_implants", killed)
    with pytest.raises(KeyboardInterrupt):
        adaptation.adapt(*world, tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    adaptation.adapt(*world, tmp_path / "broken")
    assert calls == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7], [8, 9]], "finished tasks are not done again"
    for name in ("features.npy", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


@pytest.mark.parametrize("function", ["write_record", "atomic"])
def test_a_kill_while_the_outputs_are_written_loses_nothing(world, tmp_path, monkeypatch, function):
    adaptation.adapt(*world, tmp_path / "whole")
    original = getattr(adaptation, function)

    def killed(path, *args):
        if path.parent.name == "broken" and path.name != "metrics.jsonl":
            raise KeyboardInterrupt
        return original(path, *args)

    monkeypatch.setattr(adaptation, function, killed)
    with pytest.raises(KeyboardInterrupt):
        adaptation.adapt(*world, tmp_path / "broken")
    monkeypatch.setattr(adaptation, function, original)
    monkeypatch.setattr(implanting, "train_implants", lambda *args: pytest.fail("all tasks were finished"))
    adaptation.adapt(*world, tmp_path / "broken")
    whole, broken = (tmp_path / name / "features.npy" for name in ("whole", "broken"))
    assert whole.read_bytes() == broken.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "whole"]


def test_a_file_system_without_links_gets_a_copy(world, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    adaptation.adapt(*world, tmp_path / "out")
    assert load_adapted(tmp_path / "out", world[1], world[3]).shape == (10, 21, 1, 2)


def test_a_state_of_other_tasks_is_refused(world, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "CHUNK", {"cpu": 4})
    state = tmp_path / "out.state"
    state.mkdir()
    write_record(state / "progress.json", {"identity": "other"})
    with pytest.raises(DataError, match="other settings, data or code"):
        adaptation.adapt(*world, tmp_path / "out")


def test_foreign_and_damaged_folders_are_refused(world, tmp_path):
    _, sha256, _, tasks, _ = world
    adaptation.adapt(*world, tmp_path / "out")
    with pytest.raises(DataError, match="another network or other tasks"):
        load_adapted(tmp_path / "out", "0" * 64, tasks)
    (tmp_path / "out/features.npy").write_bytes(b"short")
    with pytest.raises(DataError, match="damaged"):
        load_adapted(tmp_path / "out", sha256, tasks)


@pytest.mark.parametrize("at_once", [4, 256])
def test_the_curve_is_the_mean_over_tasks_however_many_train_at_once(world, tmp_path, monkeypatch, at_once):
    network, _, store, tasks, job = world
    wanted = torch.zeros(job.settings.epochs, 2)
    for t in range(job.tasks):
        stream = implanting.frozen_stream(network, store.images[tasks.support[t].ravel()])
        implanting.train_implants(
            stream, torch.arange(6).view(1, 3, 2), [t], job.settings, job.network.seed,
            lambda epoch, losses, right: wanted[epoch].add_(torch.stack([losses[0], 100 * right[0]]) / job.tasks),
        )  # fmt: skip
    monkeypatch.setattr(adaptation, "CHUNK", {"cpu": at_once})
    adaptation.adapt(*world, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    found = torch.tensor([[line["loss"], line["support_accuracy"]] for line in lines])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    record = json.loads((tmp_path / "out/adapt.json").read_text())
    assert [record["loss_first"], record["loss_last"]] == [lines[0]["loss"], lines[-1]["loss"]]
    added = torch.from_numpy(np.load(tmp_path / "out/features.npy")).double()
    shares = {"support_share": [], "query_share": []}
    for t in range(job.tasks):
        for name, chosen, values in (
            ("support_share", tasks.support[t], added[t, :6]),
            ("query_share", tasks.query[t], added[t, 6:]),
        ):
            own = implanting.frozen_stream(network, store.images[chosen.ravel()]).features.double()
            for location in range(own.shape[1]):
                both = torch.cat([own[:, location], values[:, location]], dim=-1).norm(dim=-1)
                shares[name].append(100 * (values[:, location].norm(dim=-1) / both) ** 2)
    for name, values in shares.items():
        assert record[name] == pytest.approx(float(torch.stack(values).mean()), rel=1e-3)


def test_implants_start_from_the_networks_seed(world, tmp_path):
    *rest, job = world
    features = []
    for seed in (0, 0, 3):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        adaptation.adapt(*rest, replace(job, network=replace(job.network, seed=seed)), tmp_path / "out")
        features.append(np.load(tmp_path / "out/features.npy"))
    np.testing.assert_array_equal(features[0], features[1])
    assert not np.array_equal(features[0], features[2])


def test_other_tasks_have_a_frozen_stream_of_their_own_and_are_not_taken_for_these(world, tmp_path):
    network, sha256, store, _, job = world
    other = episodes.draw(store, replace(job.episodes, seed=job.episodes.seed + 1))
    adaptation.adapt(*world, tmp_path / "first")
    adaptation.adapt(network, sha256, store, other, job, tmp_path / "second")
    adaptation._last.clear()
    adaptation.adapt(network, sha256, store, other, job, tmp_path / "alone")
    alone, second = (np.load(tmp_path / name / "features.npy") for name in ("alone", "second"))
    np.testing.assert_array_equal(second, alone)
    with pytest.raises(DataError, match="another network or other tasks"):
        load_adapted(tmp_path / "first", sha256, other)


def cut_off_after_a_chunk(world, folder, monkeypatch):
    monkeypatch.setattr(adaptation, "CHUNK", {"cpu": 4})
    train_implants = implanting.train_implants

    def killed(*args):
        if args[2] != [0, 1, 2, 3]:
            raise KeyboardInterrupt
        return train_implants(*args)

    monkeypatch.setattr(implanting, "train_implants", killed)
    with pytest.raises(KeyboardInterrupt):
        adaptation.adapt(*world, folder)
    monkeypatch.setattr(implanting, "train_implants", train_implants)


def test_finished_tasks_that_are_damaged_are_refused(world, tmp_path, monkeypatch):
    cut_off_after_a_chunk(world, tmp_path / "out", monkeypatch)
    file = tmp_path / "out.state/features.npy"
    features = np.load(file)
    features[3, -1] += 1
    np.save(file, features)
    with pytest.raises(DataError, match=r"damaged \(its hash is not the one in progress\.json\)"):
        adaptation.adapt(*world, tmp_path / "out")


def test_seconds_count_the_work_before_a_kill(world, tmp_path, monkeypatch):
    adapt_tasks, passed = implanting.adapt_tasks, [0.0]
    monkeypatch.setattr(adaptation.time, "monotonic", lambda: passed[0])

    def slow(*args):
        added = adapt_tasks(*args)
        passed[0] += 100
        return added

    monkeypatch.setattr(implanting, "adapt_tasks", slow)
    cut_off_after_a_chunk(world, tmp_path / "out", monkeypatch)
    passed[0] += 1000  # nobody at work
    adaptation.adapt(*world, tmp_path / "out")
    assert json.loads((tmp_path / "out/adapt.json").read_text())["seconds"] == 300


def test_half_precision_of_what_implants_see_leaves_the_answers_as_they_are(world, tmp_path, monkeypatch):
    """The stream is kept in float16 (`implanting.STORED`); every other test of what implants learn keeps it in float32."""
    network, sha256, store, tasks, job = world
    job = replace(job, settings=job.settings.model_copy(update={"epochs": 50}))
    features = Features(compute(network, store.images, progress=False), np.arange(len(store.images)), {})
    found = {}
    for kept in (torch.float16, torch.float32):
        monkeypatch.setattr(implanting, "STORED", kept)
        adaptation._last.clear()
        folder = tmp_path / str(kept)
        adaptation.adapt(network, sha256, store, tasks, job, folder)
        added = load_adapted(folder, sha256, tasks)
        losses = json.loads((folder / "adapt.json").read_text())
        accuracies = Evaluator(features, CPU).accuracies(tasks, "gap", "dense", 10.0, adapted=added, tasks=job.tasks)
        found[kept] = added.astype(np.float32), losses, accuracies["novel"]
    adaptation._last.clear()
    (half, half_losses, half_right), (whole, losses, right) = found.values()
    assert np.abs(half - whole).max() < 0.02 * np.abs(whole).max()
    assert half_losses["loss_last"] == pytest.approx(losses["loss_last"], rel=5e-3)
    assert losses["loss_last"] < 0.9 * losses["loss_first"]
    assert np.abs(half_right - right).max() <= 100 / 15 + 1e-9, "one query of a task at most"
    assert (half_right != right).mean() <= 0.1
