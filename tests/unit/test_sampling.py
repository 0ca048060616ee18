import pytest
import torch

from fewshot.config import EpisodicSettings, TrainingSettings
from fewshot.errors import DataError
from fewshot.sampling import BalancedBatches, Batches, Tasks, build_sampling


def tasks(sizes, seed=0, **settings):
    labels = torch.cat([torch.full((size,), 10 + i) for i, size in enumerate(sizes)])
    rows = torch.arange(100, 100 + len(labels))
    return Tasks(rows, labels, EpisodicSettings(kind="episodic", **settings), seed), dict(
        zip(rows.tolist(), labels.tolist(), strict=True)
    )


def test_every_epoch_holds_every_image_once_and_the_tail_joins_the_next():
    batches = Batches(torch.arange(100, 110), 4, seed=0)
    drawn = torch.cat([batches(t) for t in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(100, 110))
    assert not torch.equal(drawn[:10], drawn[10:])
    assert torch.equal(Batches(torch.arange(100, 110), 4, seed=0)(3), drawn[12:16]), "no state from iteration to iteration"


def test_balanced_batches_are_balanced_and_draw_every_image():
    """Three classes of 50, 2 and 1 images: each class as often as the others, to within one a batch's border."""
    rows = [torch.arange(50), torch.arange(50, 52), torch.arange(52, 53)]
    batches = BalancedBatches(rows, 8, seed=0)
    drawn = torch.cat([batches(t) for t in range(300)])
    classes = torch.bucketize(drawn, torch.tensor([50, 52]), right=True)
    assert torch.bincount(classes).tolist() == [800, 800, 800]
    assert set(drawn.tolist()) == set(range(53))
    images = torch.bincount(drawn[classes == 1] - 50)
    assert 350 < images[0] < 450, "images of a class are drawn evenly"
    assert torch.equal(BalancedBatches(rows, 8, seed=0)(7), batches(7)), "no state from iteration to iteration"
    assert not torch.equal(BalancedBatches(rows, 8, seed=1)(7), batches(7))


def test_a_task_is_laid_out_class_by_class_without_repetition():
    draw, label_of = tasks([9, 5, 7, 6, 8], way=3, shot=2, queries=3)
    assert draw.batch_size == 15
    seen = set()
    for iteration in range(200):
        rows = draw(iteration).tolist()
        classes = [[label_of[row] for row in rows[i : i + 5]] for i in range(0, 15, 5)]
        assert all(len(set(one)) == 1 for one in classes)
        assert len({one[0] for one in classes}) == 3
        assert len(set(rows)) == 15
        seen.update(rows)
    assert seen == set(label_of), "every image is drawn sooner or later"


def test_tasks_have_no_state_and_follow_their_seed():
    settings = {"way": 3, "shot": 1, "queries": 2}
    first, again, other = (tasks([6] * 8, seed, **settings)[0] for seed in (0, 0, 1))
    for iteration in range(5):
        first(iteration)
    assert torch.equal(first(3), again(3))
    assert not torch.equal(first(3), first(4))
    assert not torch.equal(first(3), other(3))


def test_all_classes_are_drawn_equally_often():
    draw, label_of = tasks([4, 20, 4, 20, 4, 4], way=2, shot=1, queries=1)
    counts = torch.zeros(16)
    for iteration in range(3000):
        for row in draw(iteration)[::2].tolist():
            counts[label_of[row]] += 1
    assert (counts[10:] / 1000 - 1).abs().max() < 0.1


def test_tasks_that_do_not_fit_are_refused_in_one_line():
    with pytest.raises(DataError, match=r"^stage1\.training\.objective\.way is 5, but training has only 4 classes: lower it$"):
        tasks([9] * 4, way=5, shot=1, queries=1)
    with pytest.raises(DataError, match=r"asks for 7 images a class, but a training class has only 6"):
        tasks([9, 6, 8], way=2, shot=2, queries=5)


def test_an_objective_chooses_its_sampling():
    rows, labels = torch.arange(40), torch.arange(4).repeat_interleave(10)
    assert isinstance(build_sampling(TrainingSettings(batch_size=8), rows, labels, 0), Batches)
    episodic = TrainingSettings(objective={"kind": "episodic", "way": 2, "shot": 1, "queries": 3})
    drawn = build_sampling(episodic, rows, labels, 0)
    assert isinstance(drawn, Tasks)
    assert drawn.batch_size == 8


def test_another_seed_is_another_order():
    first, other = (Batches(torch.arange(100), 100, seed)(0) for seed in (0, 1))
    assert not torch.equal(first, other)
