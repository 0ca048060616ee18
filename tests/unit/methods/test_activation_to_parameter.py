"""The mapping against its definition by hand, its training against a loop, and tasks from a trained network to accuracies."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch.nn import functional as F
from typer.testing import CliRunner

from fewshot.checkpoint import load_network
from fewshot.cli import app
from fewshot.config import ActivationMappingSettings, parse
from fewshot.data.store import open_store
from fewshot.episodes import load as load_episodes
from fewshot.errors import ConfigError, DataError, FewshotError
from fewshot.features import load as load_features
from fewshot.methods import activation_to_parameter as method
from fewshot.methods.activation_to_parameter import ActivationMapping, ClassActivations, class_means, train
from fewshot.methods.base import Ground, Task
from fewshot.optimization import Draw, generator
from fewshot.plan import FeaturePart, Plan
from fewshot.report.graph import counts
from fewshot.report.times import job_times

SETTINGS = ActivationMappingSettings(method="activation_to_parameter", iterations=300)
CONFIG = {
    "run": "mapped",
    "device": "cpu",
    "dataset": {"name": "glyphs", "classes": 20, "images_per_class": 20, "image_size": 16, "held_out": 0.25},
    "stage1": {
        "training": {"iterations": 40, "batch_size": 16, "optimizer": {"lr": 0.05}, "validation": {"every": 0, "keep": "last"}},
        "networks": {
            "simple": {"backbone": {"name": "conv64", "widths": [8, 8, 16, 16], "last_pool": False}},
            "all": {"backbone": {"name": "conv64", "widths": [8, 8, 16, 16]}, "training": {"classes": "base+val"}},
        },
    },
    "stage2": {
        "mapped": {"method": "activation_to_parameter", "iterations": 60},
        "views": {"method": "activation_to_parameter", "iterations": 60, "views": 2},
    },
    "evaluation": {
        "way": 3, "queries": "remaining", "shots": [1, 5], "tasks": 4,
        "tests": [
            {"networks": ["simple"], "adaptation": "mapped", "populations": ["novel", "both"]},
            {"networks": ["all"], "adaptation": "views", "shots": [5]},
        ],
    },
}  # fmt: skip


@pytest.fixture
def activations():
    random = torch.Generator().manual_seed(0)
    centres = torch.rand(6, 1, 10, generator=random) * 3
    values = (centres + torch.randn(6, 25, 10, generator=random)).relu().flatten(0, 1)
    order = torch.randperm(150, generator=random)
    return values[order], torch.arange(6).repeat_interleave(25)[order]


def test_at_the_start_an_activation_is_its_own_class_weight():
    activations = torch.rand(7, 12) * 5
    torch.testing.assert_close(ActivationMapping(12)(activations), F.normalize(activations, dim=-1))


def test_the_mapping_is_norm_linear_relu_linear_norm():
    torch.manual_seed(0)
    mapping = ActivationMapping(5)
    for parameter in mapping.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(4, 5)
    for row, got in zip(x, mapping(x), strict=True):
        hidden = torch.clamp(mapping.first.weight @ (row / row.norm()) + mapping.first.bias, min=0)
        out = mapping.second.weight @ hidden + mapping.second.bias
        torch.testing.assert_close(got, out / out.norm())
    assert sum(parameter.numel() for parameter in mapping.parameters()) == 2 * (5 * 5 + 5)


def test_class_means_by_a_loop(activations):
    values, labels = activations
    means = class_means(values, labels, 6)
    for label in range(6):
        members = [value for value, one in zip(values, labels, strict=True) if one == label]
        torch.testing.assert_close(means[label], sum(members) / len(members))


def test_statistics_are_one_activation_of_the_class_or_its_mean(activations):
    values, labels = activations
    classes = ClassActivations(values, labels)
    means, seen = 0, [set() for _ in range(6)]
    for iteration in range(400):
        statistics, queries = classes.draw(0.3, generator(1, Draw.STATISTICS, iteration))
        for label in range(6):
            members = values[labels == label]
            query = (members == queries[label]).all(1).nonzero().flatten()
            assert len(query) == 1
            seen[label].add(int(query))
            if torch.equal(statistics[label], classes.means[label]):
                means += 1
            else:
                assert (members == statistics[label]).all(1).any()
    assert means / 2400 == pytest.approx(0.3, abs=0.03)
    assert all(len(one) == 25 for one in seen), "every activation is drawn"


def test_training_is_sgd_on_the_cross_entropy_over_all_classes(activations):
    """The first steps by hand, momentum and weight decay written out."""
    classes = ClassActivations(*activations)
    settings = SETTINGS.model_copy(update={"iterations": 3, "lr": 0.5})
    mapping, _ = train(classes, settings, seed=4)
    own = ActivationMapping(10)
    velocity = [torch.zeros_like(parameter) for parameter in own.parameters()]
    for iteration in range(3):
        statistics, queries = classes.draw(0.3, generator(4, Draw.STATISTICS, iteration))
        weights = own(statistics)
        terms = [-(weights @ query).log_softmax(0)[label] for label, query in enumerate(queries)]
        gradients = torch.autograd.grad(sum(terms) / 6, list(own.parameters()))
        with torch.no_grad():
            for parameter, gradient, speed in zip(own.parameters(), gradients, velocity, strict=True):
                speed.mul_(0.9).add_(gradient + 5e-4 * parameter)
                parameter.sub_(0.5 * speed)
    for one, other in zip(mapping.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_training_lowers_the_loss_and_follows_its_seed(activations):
    classes = ClassActivations(*activations)
    settings = SETTINGS.model_copy(update={"iterations": 1000, "lr": 0.05})
    mapping, curve = train(classes, settings, seed=0)
    assert [point["epoch"] for point in curve] == [1, 2, 3, 4]
    assert curve[-1]["loss"] < curve[0]["loss"]
    again, other = (train(classes, settings, seed=seed)[0] for seed in (0, 1))
    assert torch.equal(mapping.first.weight, again.first.weight)
    assert not torch.equal(mapping.first.weight, other.first.weight)


def test_a_loss_that_is_not_finite_is_refused_in_one_line(activations):
    with pytest.raises(FewshotError, match=r"activation_to_parameter: the loss is nan by iteration \d+; lower stage2's lr"):
        train(ClassActivations(*activations), SETTINGS.model_copy(update={"lr": 1e30}), seed=0)


# --- in the pipeline ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory, run_stages):
    """The whole run up to stage 2."""
    plan = Plan(parse(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        yield run_stages(plan), open_store(plan.store_dir)


def ground_of(plan, store, job):
    network, _ = load_network(plan.network_dir(job))
    evaluated, trained = (load_features(plan.features_dir(job, FeaturePart(of))) for of in ("test", "trained"))
    return Ground(network, store, evaluated, job.seed, "test", trained)


def test_queries_remaining_are_all_images_but_the_support(run):
    plan, store = run
    for shot in (1, 5):
        episodes = load_episodes(plan.episodes_path(plan.episodes(shot)), store)
        assert episodes.query.shape == (4, 3, 20 - shot)
        for task in range(4):
            for support, query in zip(episodes.support[task], episodes.query[task], strict=True):
                label = store.labels[support[0]]
                assert sorted([*support, *query]) == np.flatnonzero(store.labels == label).tolist()


def test_accuracies_by_a_loop_over_images(run):
    """Novel among novel, and all among base and novel: dot products of raw activations with what phi makes of means."""
    plan, store = run
    job = plan.adaptations[1]
    assert (job.network.name, job.episodes.shot) == ("simple", 5)
    ground = ground_of(plan, store, job.network)
    mapped = method.prepare(ground, job.settings)
    values = dict(zip(ground.features.rows.tolist(), ground.features.values.mean(1), strict=True))
    episodes = load_episodes(plan.episodes_path(job.episodes), store)
    table = pd.read_parquet(plan.evaluation_dir(plan.evaluations[0]) / "5shot-gap-gap.parquet")
    base = torch.stack([torch.from_numpy(one) for one in _base_means(ground, store)])
    known = mapped.mapping(base)
    for task in range(4):
        novel = torch.stack(
            [
                mapped.mapping(torch.from_numpy(np.mean([values[row] for row in rows], axis=0)))
                for rows in episodes.support[task]
            ]
        )
        among_novel, among_all = [], []
        for label, rows in enumerate(episodes.query[task]):
            for row in rows:
                query = torch.from_numpy(values[int(row)])
                among_novel.append(int((novel @ query).argmax()) == label)
                among_all.append(int((torch.cat([known, novel]) @ query).argmax()) == store.num_base + label)
        for row in episodes.base[task]:
            scores = torch.cat([known, novel]) @ torch.from_numpy(values[int(row)])
            among_all.append(int(scores.argmax()) == store.labels[row])
        assert table["novel"][task] == pytest.approx(100 * np.mean(among_novel), abs=1.5)
        assert table["both"][task] == pytest.approx(100 * np.mean(among_all), abs=1.5)


def _base_means(ground, store):
    rows = store.rows("base")
    with torch.no_grad():
        images = torch.from_numpy(np.array(store.images[rows]))
        maps = ground.network(ground.network.normalise(images)).mean((2, 3)).numpy()
    return [maps[store.labels[rows] == label].mean(0) for label in range(store.num_base)]


def test_the_report_tells_the_time_of_every_extraction(run):
    plan, _ = run
    told = [time.what for time in job_times(plan) if time.job == "extract"]
    assert len(told) == counts(plan)["extract"] == 2 * len(plan.networks) + 1
    assert sum("images trained on" in what for what in told) == len(plan.networks)
    assert sum(", views2" in what for what in told) == 1


def test_images_trained_on_are_not_looked_at_again_once_all_that_learns_from_them_is_there(run, tmp_path, pytestconfig):
    plan, _ = run
    network = next(job.network for job in plan.adaptations)
    learnt = plan.features_dir(network, FeaturePart("trained"))
    record = plan.adapted_dir(next(job for job in plan.adaptations if job.network == network)) / "adapt.json"
    Path("config").mkdir()
    shutil.copy(pytestconfig.rootpath / "config" / "published.csv", "config")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(plan.config.as_dict()))
    shutil.rmtree(learnt)
    runner = CliRunner()
    assert runner.invoke(app, ["run", str(file), "--threads", "1"], catch_exceptions=False).exit_code == 0
    assert not learnt.exists()
    record.unlink()
    assert runner.invoke(app, ["run", str(file), "--threads", "1"], catch_exceptions=False).exit_code == 0
    assert learnt.exists()
    assert record.exists()


def test_a_network_of_all_training_classes_maps_all_of_them(run):
    plan, store = run
    job = next(job for job in plan.adaptations if job.network.name == "all")
    ground = ground_of(plan, store, job.network)
    mapped = method.prepare(ground, job.settings)
    assert len(mapped.known) == (store.classes["part"] != "test").sum() > store.num_base
    episodes = load_episodes(plan.episodes_path(job.episodes), store)
    task = Task(0, episodes.support[0], episodes.query[0].ravel(), np.repeat(np.arange(3), 15), episodes.base[0][:0])
    said, curve = mapped(task, None)
    assert said.shape == (45, 2)
    assert set(said[:, 1]) <= {0, 1, 2}
    assert set(said[:, 0]) == {-1}
    assert [point["epoch"] for point in curve] == [1]


def test_the_method_takes_the_features_of_views_as_they_are(run):
    plan, store = run
    job = next(job for job in plan.adaptations if job.name == "views")
    parts = plan.parts_read(job)
    assert [part.name for part in parts] == ["test-views2", "trained"]
    views = load_features(plan.features_dir(job.network, parts[0]))
    ground = replace(ground_of(plan, store, job.network), features=views)
    np.testing.assert_array_equal(method.prepare(ground, job.settings).tested.values, views.values)
    plain = load_features(plan.features_dir(job.network))
    assert views.rows.tolist() == plain.rows.tolist()
    assert views.meta["views"] == 2
    one, other = torch.from_numpy(np.array(views.values[:, 0])), torch.from_numpy(plain.values.mean(1))
    assert not torch.allclose(one, other)
    assert F.cosine_similarity(one, other).mean() > 0.8


def test_features_of_another_network_are_refused(run):
    plan, _ = run
    one, other = plan.networks
    _, info = load_network(plan.network_dir(one))
    with pytest.raises(DataError, match="features of another network"):
        load_features(plan.features_dir(other), info["sha256"])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stage1.networks.simple.classifier", {"pooling": "dense"}, "train one with pooling: gap or gmp"),
        ("evaluation.tests.1.populations", ["novel", "both"], "its only population is novel"),
        ("evaluation.part", "val", "evaluation.part val would test what it saw"),
        ("evaluation.way", "all", "a number of classes goes with queries: remaining"),
        ("evaluation.tests.0.poolings", ["gmp/gmp"], "leave `poolings` out"),
        ("stage2.mapped.mean_share", 1.5, "mean_share"),
        ("stage2.mapped.views", "ten_crops", "'mapped' takes ten crops .* train network 'simple' with augmentation.crop below"),
        ("stage2.mapped.views", "five_crops", "ten_crops"),
        ("stage2.mapped.views", -1, "views"),
        ("stage1.networks.simple.backbone", {"name": "wide_resnet", "depth": 27}, r"depth of a wide_resnet is 4 \+ 6 n"),
    ],
)
def test_bad_settings_are_refused_by_name(path, value, message):
    data = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    node = data
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[last] = value
    with pytest.raises(ConfigError, match=message):
        parse(data)


def test_a_query_is_drawn_apart_from_the_statistic(activations):
    classes = ClassActivations(*activations)
    pairs = (classes.draw(0.0, generator(1, Draw.STATISTICS, iteration)) for iteration in range(400))
    alike = sum(int((statistics == queries).all(1).sum()) for statistics, queries in pairs)
    assert alike / 2400 == pytest.approx(1 / 25, abs=0.02)


def test_the_curve_is_of_means_over_its_iterations(activations):
    """The last entry too, which may be of fewer; without learning an activation stays its own class weight."""
    classes, losses, right = ClassActivations(*activations), [], []
    _, curve = train(classes, SETTINGS.model_copy(update={"iterations": 300, "lr": 0.0}), seed=2)
    for iteration in range(300):
        statistics, queries = classes.draw(0.3, generator(2, Draw.STATISTICS, iteration))
        logits = queries @ F.normalize(statistics, dim=1).T
        losses.append(float(F.cross_entropy(logits, torch.arange(6))))
        right.append(100 * float((logits.argmax(1) == torch.arange(6)).float().mean()))
    for point, part in zip(curve, (slice(0, 250), slice(250, 300)), strict=True):
        assert point["loss"] == pytest.approx(np.mean(losses[part]), rel=1e-4)
        assert point["training_accuracy"] == pytest.approx(np.mean(right[part]), rel=1e-4)


def test_numbers_of_shots_and_views_share_a_mapping_and_nothing_else_does(monkeypatch):
    trained, right = [], train
    monkeypatch.setattr(method, "_last", [])
    monkeypatch.setattr(method, "train", lambda *args: trained.append(1) or right(*args))
    classes = ClassActivations(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3)
    short = SETTINGS.model_copy(update={"iterations": 2})
    first = method.learnt("a", classes, short, 0)
    assert method.learnt("a", classes, short.model_copy(update={"views": 5}), 0) is first
    assert len(trained) == 1
    fast = short.model_copy(update={"lr": 0.5})
    others = [("b", short, 0), ("b", fast, 0), ("b", fast, 1), (None, fast, 1), (None, fast, 1)]
    for of, settings, seed in others:
        method.learnt(of, classes, settings, seed)
    assert len(trained) == 6
