"""Imprinting against the paper's formula by hand, and what it must leave alone."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fewshot import predictions, views
from fewshot.checkpoint import load_network
from fewshot.config import FinetuningSettings, ImprintingSettings, JointTrainingSettings, parse
from fewshot.data.augment import augment
from fewshot.data.store import open_store
from fewshot.episodes import load as load_episodes
from fewshot.features import load as load_features
from fewshot.finetuning import Finetuning
from fewshot.methods import imprinting, joint_training
from fewshot.methods.base import Ground, Task
from fewshot.models.heads import CosineClassifier, NoClassifier
from fewshot.plan import Plan
from fewshot.training import Trainer

FINETUNING = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.01, "head_factor": 10.0}}
CONFIG = {
    "run": "imprinted",
    "device": "cpu",
    "dataset": {"name": "glyphs", "classes": 20, "images_per_class": 20, "image_size": 16, "held_out": 0.25},
    "stage1": {
        "training": {"iterations": 30, "batch_size": 16, "optimizer": {"lr": 0.05}, "validation": {"every": 0, "keep": "last"}},
        "networks": {"small": {"backbone": {"name": "c128f", "widths": [8, 8, 16, 16]}, "embedding": 6}},
    },
    "stage2": {"imprinting": {"method": "imprinting"}},
    "evaluation": {
        "way": "all", "queries": "all", "shots": [1, 5], "tasks": 3,
        "tests": [{"networks": ["small"], "adaptation": "imprinting", "populations": ["novel", "novel_in_all", "all"]}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory, run_stages):
    """A trained network with its features, and the draws of five exemplars."""
    plan = Plan(parse(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        job = run_stages(plan, last="extract").networks[0]
        store = open_store(plan.store_dir)
        network, _ = load_network(plan.network_dir(job))
        ground = Ground(network, store, load_features(plan.features_dir(job)), 0, "test")
        yield plan, ground, {shot: load_episodes(plan.episodes_path(plan.episodes(shot)), store) for shot in (1, 5)}


def _task(world, shot, number=0):
    episodes = world[2][shot]
    query = episodes.query[number]
    there = query.ravel() >= 0
    classes = np.repeat(np.arange(len(query)), query.shape[1])[there]
    return Task(number, episodes.support[number], query.ravel()[there], classes, episodes.base[number])


def _shares(world, task, said):
    store = world[1].store
    return predictions.shares(said, task.classes, store.labels[task.base], store.num_base, ("novel", "novel_in_all", "all"))


def test_imprinted_weights_are_the_papers_formula():
    """w~ = 1/n sum phi(x_i), w = w~ / |w~|, with phi of unit length; class by class, in a loop."""
    torch.manual_seed(0)
    embeddings, classes = torch.randn(7, 4), torch.tensor([0, 2, 1, 0, 2, 0, 1])
    weights = imprinting.imprint(embeddings, classes, 3)
    for novel in range(3):
        phi = [x / x.norm() for x, label in zip(embeddings, classes, strict=True) if label == novel]
        mean = sum(phi) / len(phi)
        torch.testing.assert_close(weights[novel], mean / mean.norm())


def test_base_logits_do_not_change_by_imprinting():
    torch.manual_seed(0)
    classifier, images = CosineClassifier(4, 5, scale=7.0), torch.randn(6, 1, 4)
    larger = imprinting.extended(classifier, torch.randn(3, 4))
    assert larger(images).shape == (6, 1, 8)
    assert torch.equal(larger.weight[:5], classifier.weight)
    torch.testing.assert_close(larger(images)[..., :5], classifier(images))
    assert imprinting.extended(classifier, torch.randn(3, 4), with_base=False)(images).shape == (6, 1, 3)


def test_with_one_exemplar_imprinting_is_nearest_neighbour(world, tmp_path):
    task = _task(world, 1)
    one, other = (
        imprinting.prepare(world[1], ImprintingSettings(method="imprinting", weights=weights))(task, tmp_path / "state")[0]
        for weights in ("imprinted", "nearest")
    )
    assert np.array_equal(one, other)
    task = _task(world, 5)
    one, other = (
        imprinting.prepare(world[1], ImprintingSettings(method="imprinting", weights=weights))(task, tmp_path / "state")[0]
        for weights in ("imprinted", "nearest")
    )
    assert not np.array_equal(one, other)


def test_nearest_is_the_best_exemplar_of_each_class():
    torch.manual_seed(0)
    images, exemplars, classes = torch.randn(4, 3), torch.randn(6, 3), torch.tensor([0, 1, 1, 2, 0, 1])
    found = imprinting.nearest(images, exemplars, classes, 3)
    for i, image in enumerate(images):
        for novel in range(3):
            cosines = [F.cosine_similarity(image, x, dim=0) for x, c in zip(exemplars, classes, strict=True) if c == novel]
            assert found[i, novel] == pytest.approx(float(max(cosines)), abs=1e-6)


def test_predictions_are_the_nearest_template_image_by_image(world, tmp_path):
    """Eq. (7): the class whose template is nearest; from the network itself, an image at a time."""
    _, ground, _ = world
    task, network = _task(world, 5), ground.network
    said, curve = imprinting.prepare(ground, ImprintingSettings(method="imprinting"))(task, tmp_path / "state")
    assert curve == []

    def phi(row):
        image = torch.from_numpy(np.array(ground.store.images[row : row + 1]))
        with torch.no_grad():
            return F.normalize(network(network.normalise(image)).mean((2, 3)), dim=1)[0]

    templates = [w / w.norm() for w in network.classifier.weight.detach()]
    templates += [F.normalize(sum(phi(row) for row in rows), dim=0) for rows in task.support]
    templates = torch.stack(templates)
    base = ground.store.num_base
    for place, row in [*enumerate(task.query[:6]), *enumerate(task.base[:6], start=len(task.query))]:
        cosines = templates @ phi(row)
        own = cosines[base:] if place < len(task.query) else cosines[:base]
        assert said[place].tolist() == [int(cosines.argmax()), int(own.argmax())]


def test_views_are_seeded_and_random_weights_are_drawn_anew_for_each_draw(world, tmp_path):
    _, ground, _ = world
    views = imprinting.prepare(ground, ImprintingSettings(method="imprinting", views=2))
    task = _task(world, 5)
    assert torch.equal(views.weights(task), views.weights(task))
    plain = imprinting.prepare(ground, ImprintingSettings(method="imprinting")).weights(task)
    cosines = (views.weights(task) * plain).sum(1)
    assert not torch.equal(views.weights(task), plain)
    assert (cosines > 0.5).all()
    drawn = imprinting.prepare(ground, ImprintingSettings(method="imprinting", weights="random"))
    first, second = drawn.weights(task), drawn.weights(_task(world, 5, 1))
    assert not torch.equal(first, second)
    assert first.abs().max() <= (6 / (first.shape[0] + first.shape[1])) ** 0.5


@pytest.mark.parametrize("classes", ["all", "novel"])
def test_finetuning_starts_from_the_imprinted_accuracy(world, tmp_path, classes):
    _, ground, _ = world
    task, before = _task(world, 5), {name: value.clone() for name, value in ground.network.state_dict().items()}
    names = ("novel", "novel_in_all", "all") if classes == "all" else ("novel",)
    settings = ImprintingSettings(method="imprinting", classes=classes)
    plain, _ = imprinting.prepare(ground, settings)(task, tmp_path / "a")
    tuned = settings.model_copy(update={"finetuning": FinetuningSettings(**FINETUNING)})
    said, curve = imprinting.prepare(ground, tuned)(task, tmp_path / "b")
    assert [point["epoch"] for point in curve] == [0, 1, 2]
    store = ground.store
    for which, point in ((plain, curve[0]), (said, curve[-1])):
        found = predictions.shares(which, task.classes, store.labels[task.base], store.num_base, names)
        assert {name: point[name] for name in names} == {name: pytest.approx(found[name]) for name in names}
    assert not np.array_equal(plain, said), "training changes something"
    after = ground.network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before), "and nothing of the network it starts from"
    if classes == "novel":
        assert (said[:, 0] == -1).all()
        assert (said[len(task.query) :] == -1).all()


@pytest.mark.parametrize("learn_scale", [True, False])
def test_a_scale_that_stage_1_held_fast_stays_so_in_finetuning(world, tmp_path, monkeypatch, learn_scale):
    _, ground, _ = world
    network, trained = deepcopy(ground.network), []
    network.classifier.scale.requires_grad_(learn_scale)
    original = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, stop: (original(self, stop), trained.append(self.network))[0])
    settings = ImprintingSettings(method="imprinting", finetuning=FINETUNING)
    imprinting.prepare(replace(ground, network=network), settings)(_task(world, 5), tmp_path / "state")
    (tuned,) = trained
    assert (tuned.scale != network.scale) == learn_scale
    assert not torch.equal(next(tuned.backbone.parameters()), next(network.backbone.parameters())), "the rest learns"


LEARNING = {
    "epochs": 16, "measure_every": 16, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.1, "head_factor": 1},
    "augmentation": {"flip": False, "crop_padding": 0},
}  # fmt: skip


def _task_of_its_own_exemplars(world):
    """A task that is tested on the very images it learns from."""
    task, base = _task(world, 5), world[1].store.rows("base")
    rows, classes = task.exemplars
    return replace(task, query=rows, classes=classes, base=base)


def test_finetuning_learns_its_images(world, tmp_path):
    _, ground, _ = world
    settings = ImprintingSettings(method="imprinting", weights="random", finetuning=LEARNING)
    _, curve = imprinting.prepare(ground, settings)(_task_of_its_own_exemplars(world), tmp_path / "state")
    assert [point["epoch"] for point in curve] == [0, 16]
    assert curve[0]["novel_in_all"] < 40
    assert curve[1]["novel_in_all"] > 60
    assert curve[1]["all"] > 50


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_joint_training_starts_anew(world, tmp_path, kind):
    _, ground, _ = world
    finetuning = LEARNING | {"epochs": 24, "measure_every": 24}
    settings = JointTrainingSettings(method="joint_training", classifier={"kind": kind}, finetuning=finetuning)
    said, curve = joint_training.prepare(ground, settings)(_task_of_its_own_exemplars(world), tmp_path / "state")
    assert curve[0]["all"] < 20, "from random weights"
    assert curve[1]["all"] > 40
    assert (said >= 0).all()


@pytest.mark.parametrize("joint", [False, True])
def test_layers_that_are_new_learn_faster(world, tmp_path, monkeypatch, joint):
    """Section 5: a tenfold rate for randomly initialised layers; joint training has a new embedding layer too."""
    ground, seen = world[1], {}

    def stopped(network, *args, factors, **rest):
        seen.update({name: factors.get(module) for name, module in network.named_children()})
        raise InterruptedError

    monkeypatch.setattr("fewshot.finetuning.Trainer", stopped)
    made = (
        joint_training.prepare(ground, JointTrainingSettings(method="joint_training", finetuning=FINETUNING))
        if joint
        else imprinting.prepare(ground, ImprintingSettings(method="imprinting", finetuning=FINETUNING))
    )
    with pytest.raises(InterruptedError):
        made(_task(world, 5), tmp_path / "state")
    assert seen == {"backbone": None, "embedding": 10.0 if joint else None, "classifier": 10.0}


def test_an_embedding_without_class_weights_serves_novel_classes_alone(world, tmp_path):
    """Figure 6: of the lifted structured loss, with averages and with nearest neighbours."""
    _, ground, _ = world
    network = deepcopy(ground.network)
    network.classifier = NoClassifier()
    task, bare = _task(world, 5), replace(ground, network=network)
    for weights in ("imprinted", "nearest"):
        settings = ImprintingSettings(method="imprinting", weights=weights, classes="novel")
        found, expected = (imprinting.prepare(one, settings)(task, tmp_path / "state")[0] for one in (bare, ground))
        assert np.array_equal(found, expected)
        assert (found[: len(task.query), 1] >= 0).all()


def test_a_network_without_class_weights_is_extended_with_the_scale_that_its_settings_ask_for(world):
    _, ground, _ = world
    network = deepcopy(ground.network)
    network.classifier = NoClassifier()
    classifier = network.settings.classifier.model_copy(update={"kind": "none", "scale": 20.0, "learn_scale": False})
    network.settings = network.settings.model_copy(update={"classifier": classifier})
    settings = ImprintingSettings(method="imprinting", classes="novel")
    scale = imprinting.prepare(replace(ground, network=network), settings).classifier.scale
    assert (float(scale), scale.requires_grad) == (20.0, False)


def test_every_seed_task_and_view_has_draws_of_its_own(world, monkeypatch):
    _, ground, _ = world
    seeds, random = [], []
    monkeypatch.setattr(views, "augment", lambda *args: seeds.append(args[-1].initial_seed()) or augment(*args))
    for seed in (0, 1):
        other = replace(ground, seed=seed)
        for number in (0, 1):
            imprinting.prepare(other, ImprintingSettings(method="imprinting", views=2)).weights(_task(world, 5, number))
        drawn = imprinting.prepare(other, ImprintingSettings(method="imprinting", weights="random"))
        random.append(drawn.weights(_task(world, 5)))
    assert len(seeds) == len(set(seeds)) == 8
    assert not torch.equal(*random)


def test_a_view_counts_for_the_class_of_its_exemplar(world, monkeypatch):
    """Of views that change nothing the weights are those of the exemplars."""
    monkeypatch.setattr(views, "augment", lambda images, rows, settings, random: images[rows])
    seen, plain = (
        imprinting.prepare(world[1], ImprintingSettings(method="imprinting", views=number)).weights(_task(world, 5))
        for number in (3, 0)
    )
    torch.testing.assert_close(seen, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", ["imprinted", "nearest"])
def test_predictions_do_not_depend_on_how_many_images_are_held_at_once(world, tmp_path, monkeypatch, weights):
    task, method = _task(world, 5), imprinting.prepare(world[1], ImprintingSettings(method="imprinting", weights=weights))
    whole, _ = method(task, tmp_path / "state")
    monkeypatch.setattr(imprinting, "_ROWS", 7)
    assert np.array_equal(method(task, tmp_path / "state")[0], whole)


@pytest.mark.parametrize("balanced", [True, False])
def test_what_finetuning_is_given(world, tmp_path, monkeypatch, balanced):
    """Base images that are not held out and the exemplars, each with its class's number; weights of unit length."""
    _, ground, _ = world
    store, seen = ground.store, []

    def stopped(network, objective, batches, images, labels, training, *, seed, **rest):
        seen.append((network, batches, labels, training, seed))
        raise InterruptedError

    monkeypatch.setattr("fewshot.finetuning.Trainer", stopped)
    settings = ImprintingSettings(method="imprinting", finetuning=FINETUNING | {"balanced": balanced})
    tasks = [_task(world, 5, number) for number in (0, 1)]
    for task in tasks:
        with pytest.raises(InterruptedError):
            imprinting.prepare(ground, settings)(task, tmp_path / "state")
    (network, batches, labels, training, seed), task, base = seen[0], tasks[0], store.rows("base")
    assert seed != seen[1][-1]
    torch.testing.assert_close(network.classifier.weight.norm(dim=1), torch.ones(store.num_base + task.way))
    wanted = np.full(len(store.labels), -1)
    wanted[base] = store.labels[base]
    for number, rows in enumerate(task.support):
        wanted[rows] = store.num_base + number
    assert labels.tolist() == wanted.tolist()
    count = len(base) + task.support.size
    assert count % 16, "an epoch is rounded up"
    assert training.iterations == 2 * (count // 16 + 1)
    drawn = torch.cat([batches(t) for t in range(200)])
    shares = torch.bincount(labels[drawn], minlength=store.num_base + task.way)
    assert set(drawn.tolist()) == set(np.flatnonzero(wanted >= 0).tolist())
    assert (int(shares.max()) - int(shares.min()) <= 1) == balanced


def test_a_networks_word_is_that_of_its_evaluation_mode_and_changes_nothing_of_it(world):
    _, ground, _ = world
    task, made = _task(world, 5), Finetuning(ground, FinetuningSettings(**FINETUNING))
    network = deepcopy(ground.network)
    network.classifier = imprinting.extended(network.classifier, torch.randn(task.way, 6))
    wanted = made.predict(network.eval(), task)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert np.array_equal(made.predict(network.train(), task), wanted)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_every_point_of_a_curve_has_the_loss_of_its_own_epoch(world, tmp_path, monkeypatch):
    _, ground, _ = world
    run, lines = Trainer.run, []
    monkeypatch.setattr(Trainer, "run", lambda self, stop: (run(self, stop), lines.extend(self.progress.metrics))[0])
    settings = ImprintingSettings(method="imprinting", finetuning=FINETUNING | {"epochs": 3})
    _, curve = imprinting.prepare(ground, settings)(_task(world, 5), tmp_path / "state")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert [point["loss"] for point in curve[1:]] == losses
    assert len(set(losses)) == 3
