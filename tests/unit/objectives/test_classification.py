import math

import pytest
import torch
from torch.nn import functional as F

from fewshot.config import ClassificationSettings, NetworkSettings
from fewshot.models.network import Network
from fewshot.objectives import build_objective
from fewshot.objectives.classification import Classification, distillation_loss

SETTINGS = NetworkSettings.model_validate(
    {"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}, "classifier": {"pooling": "dense"}}
)


@pytest.fixture
def batch():
    torch.manual_seed(3)
    return torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8), torch.tensor([0, 1, 2, 3, 4, 0])


def network(seed=0, settings=SETTINGS):
    torch.manual_seed(seed)
    return Network(settings, 5, 32).eval()


def run(objective, student, images, labels, iteration=0):
    return objective(student, lambda x: student(student.normalise(x)), images, labels, iteration)


def settings(**changes):
    return ClassificationSettings.model_validate(changes)


def test_plain_classification_is_the_mean_over_images_and_locations(batch):
    images, labels = batch
    student = network()
    loss, right = run(Classification(settings(), 8), student, images, labels)
    logits = student.logits(student.normalise(images))
    terms = [-logits[i, k].log_softmax(-1)[labels[i]] for i in range(6) for k in range(4)]
    assert loss.item() == pytest.approx(float(sum(terms).detach() / len(terms)), rel=1e-5)
    votes = logits.softmax(-1).mean(1).argmax(-1)
    assert float(right) == pytest.approx(float((votes == labels).float().mean()))


def test_label_smoothing_spreads_its_share_over_all_classes(batch):
    images, labels = batch
    student = network()
    loss, _ = run(Classification(settings(label_smoothing=0.1), 8), student, images, labels)
    log = student.logits(student.normalise(images)).log_softmax(-1)
    target = 0.9 * F.one_hot(labels, 5) + 0.1 / 5
    assert loss.item() == pytest.approx(float(-(target[:, None] * log).sum(-1).mean()), rel=1e-5)


@pytest.mark.parametrize("views", ["all", "one"])
def test_the_rotation_loss_is_of_images_turned_by_hand(batch, views):
    images, labels = batch
    student = network()
    torch.manual_seed(1)
    objective = Classification(settings(rotation={"weight": 0.5, "views": views}), 8)
    loss, _ = run(objective, student, images, labels, iteration=7)
    turned, turns = objective.turned(images, views == "all", 7)
    want = []
    originals = list(range(6)) * (4 if views == "all" else 1)
    for image, turn, original in zip(turned, turns.tolist(), originals, strict=True):
        expected = images[original]
        for _ in range(turn):  # a quarter turn against the clock: the last column becomes the first row
            expected = expected.transpose(0, 1).flip(0)
        assert torch.equal(image, expected)
        features = student(student.normalise(expected[None]))
        classes = -student.classify(features).log_softmax(-1)[0, :, labels[original]].mean()
        rotation = -objective.rotation_head(features.mean((2, 3))).log_softmax(-1)[0, turn]
        want.append(classes + 0.5 * rotation)
    assert loss.item() == pytest.approx(float(torch.stack(want).mean()), rel=1e-5)
    assert len(turned) == (24 if views == "all" else 6)


def test_drawn_rotations_depend_on_seed_and_iteration_alone(batch):
    images, _ = batch
    drawn = [
        Classification(settings(rotation={"views": "one"}), 8, seed).turned(images, False, iteration)[1].tolist()
        for seed, iteration in ((0, 1), (0, 1), (0, 2), (1, 1))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0] != drawn[3]


def test_the_distillation_loss_is_the_divergence_by_hand():
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    targets = (teacher / 4).softmax(-1)
    total = 0.0
    for i in range(3):
        for k in range(2):
            p, q = targets[i, k], (student[i, k] / 4).softmax(-1)
            total += sum(float(p[c]) * (math.log(float(p[c])) - math.log(float(q[c]))) for c in range(5))
    assert float(distillation_loss(student, targets, 4.0)) == pytest.approx(16 * total / 6, rel=1e-5)


def test_a_student_of_itself_pays_only_for_the_labels(batch):
    images, labels = batch
    student = network()
    taught = Classification(settings(distillation={"teacher": "t", "weight": 0.25}), 8, teacher=student)
    plain, _ = run(Classification(settings(), 8), student, images, labels)
    loss, _ = run(taught, student, images, labels)
    assert loss.item() == pytest.approx(0.75 * float(plain), rel=1e-4)


def test_the_teacher_is_neither_trained_nor_kept(batch):
    images, labels = batch
    student, teacher = network(0), network(1)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    objective = Classification(settings(distillation={"teacher": "t"}), 8, teacher=teacher)
    assert list(objective.parameters()) == []
    assert objective.state_dict() == {}
    loss, _ = run(objective, student, images, labels)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_a_pooling_teacher_teaches_every_location_its_average(batch):
    images, _ = batch
    pooled = SETTINGS.model_copy(update={"classifier": SETTINGS.classifier.model_copy(update={"pooling": "gap"})})
    teacher = network(1, pooled)
    objective = Classification(settings(distillation={"teacher": "t"}), 8, teacher=teacher)
    targets = objective.taught(images, 4.0, 4)
    want = (teacher.logits(teacher.normalise(images)) / 4).softmax(-1)
    assert targets.shape == (6, 4, 5)
    torch.testing.assert_close(targets, want.expand(-1, 4, -1))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_teacher_computes_in_its_students_precision(batch, precision):
    images, labels = batch
    student, teacher = network(0), network(1)
    seen = []
    teacher.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    objective = Classification(settings(distillation={"teacher": "t"}), 8, teacher=teacher)

    def feature_map(pictures):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            return student(student.normalise(pictures))

    objective(student, feature_map, images, labels, 0)
    assert seen == [precision]


def test_a_teacher_and_its_settings_go_together():
    with pytest.raises(ValueError, match="a teacher goes with"):
        Classification(settings(distillation={"teacher": "t"}), 8)


def test_what_is_built_draws_from_its_seed(batch):
    drawn = [
        build_objective(settings(rotation={"views": "one"}), network(), seed).turned(batch[0], False, 0)[1].tolist()
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
