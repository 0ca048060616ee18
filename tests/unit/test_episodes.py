import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot import episodes
from fewshot.errors import DataError
from fewshot.plan import EpisodeJob


def classes(count, images, start=1000):
    return [np.arange(start + 100 * c, start + 100 * c + images) for c in range(count)]


@settings(max_examples=30, deadline=None)
@given(way=st.integers(2, 5), shot=st.integers(1, 5), queries=st.integers(1, 5), seed=st.integers(0, 1000))
def test_tasks_are_what_they_should_be(way, shot, queries, seed):
    rows = classes(6, 12)
    held_out = np.arange(50)
    support, query, base = episodes.draw_tasks(rows, held_out, way, shot, queries, 40, seed)
    assert support.shape == (40, way, shot)
    assert query.shape == (40, way, queries)
    assert base.shape == (40, way * queries)
    owner = {row: c for c, members in enumerate(rows) for row in members}
    for t in range(40):
        drawn = [{owner[row] for row in [*support[t, j], *query[t, j]]} for j in range(way)]
        assert all(len(one) == 1 for one in drawn), "a row of a task holds images of one class"
        assert len(set.union(*drawn)) == way, "classes of a task differ"
        images = [*support[t].ravel(), *query[t].ravel()]
        assert len(set(images)) == len(images), "no image twice"
    assert np.isin(base, held_out).all()


def test_the_first_tasks_are_the_same_however_many_are_drawn():
    few = episodes.draw_tasks(classes(8, 20), np.arange(9), 5, 2, 3, 260, 7)
    many = episodes.draw_tasks(classes(8, 20), np.arange(9), 5, 2, 3, 700, 7)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:260])
    other = episodes.draw_tasks(classes(8, 20), np.arange(9), 5, 2, 3, 260, 8)
    assert not np.array_equal(few[0], other[0])


def test_classes_and_images_are_drawn_uniformly():
    support, query, _ = episodes.draw_tasks(classes(6, 10, start=0), np.arange(0), 3, 1, 2, 4000, 0)
    drawn = np.concatenate([support.reshape(-1), query.reshape(-1)])
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 60
    expected = 4000 * 3 * 3 / 60
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected)


def test_classes_of_unequal_size_never_give_an_image_that_is_not_there():
    rows = [np.arange(0, 5), np.arange(10, 30), np.arange(40, 47)]
    support, query, base = episodes.draw_tasks(rows, np.arange(0), 3, 2, 3, 300, 0)
    assert (support >= 0).all()
    assert (query >= 0).all()
    assert base.shape == (300, 0)


def test_too_few_classes_or_images_are_refused():
    for rows, shot in ((classes(4, 20), 1), (classes(5, 6), 2)):
        with pytest.raises(ValueError, match="do not fit classes"):
            episodes.draw_tasks(rows, np.arange(0), 5, shot, 5, 10, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"way": 9}, r"4 classes in part test, but evaluation\.way is 9"),
        ({"queries": 30}, r"in 4 of 4 classes \(test\), the fewest in '.*', 20; evaluation needs shots . \+ queries 30 = 3."),
    ],
)
def test_tasks_that_the_store_cannot_give_are_refused(tiny_store, change, message):
    with pytest.raises(DataError, match=message):
        episodes.draw(tiny_store, dataclasses.replace(JOB, **change))


def test_validation_classes_are_drawn_from_with_other_random_numbers_than_training_validates_on(tiny_store):
    job = dataclasses.replace(JOB, part="val", seed=3)
    rows = tiny_store.rows("val")
    labels = tiny_store.labels[rows]
    per_class = [rows[labels == label] for label in np.unique(labels)]
    in_training = episodes.draw_tasks(per_class, rows[:0], job.way, job.shot, job.queries, job.tasks, job.seed)
    assert not np.array_equal(in_training[0], episodes.draw(tiny_store, job).support)


JOB = EpisodeJob(way=3, shot=2, queries=5, tasks=30, part="test", seed=0)


def test_file_round_trip_and_hash(tiny_store, tmp_path):
    drawn = episodes.draw(tiny_store, JOB)
    episodes.save(drawn, tmp_path / "e.npz")
    loaded = episodes.load(tmp_path / "e.npz", tiny_store)
    for name in ("support", "query", "base"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(drawn, name))
    assert loaded.meta == drawn.meta
    assert drawn.hash == episodes.draw(tiny_store, JOB).hash
    parts = tiny_store.classes["part"].to_numpy()[tiny_store.labels]
    assert (parts[drawn.support] == "test").all()
    assert (parts[drawn.base] == "base").all()
    assert tiny_store.held_out[drawn.base].all()


def test_a_damaged_missing_or_foreign_file_is_named(tiny_store, tmp_path):
    path = tmp_path / "e.npz"
    with pytest.raises(DataError, match=r"e\.npz: no such episode file"):
        episodes.load(path)
    drawn = episodes.draw(tiny_store, JOB)
    episodes.save(episodes.Episodes(drawn.support[::-1].copy(), drawn.query, drawn.base, drawn.meta), path)
    with pytest.raises(DataError, match="its hash does not fit"):
        episodes.load(path)
    episodes.save(episodes.Episodes(drawn.support, drawn.query, drawn.base, drawn.meta | {"data_hash": "x"}), path)
    with pytest.raises(DataError, match="drawn on other images"):
        episodes.load(path, tiny_store)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="not a readable episode file"):
        episodes.load(path)


def test_all_classes_in_every_draw_the_tested_images_stay_and_fewer_exemplars_are_the_first_of_more(tiny_store):
    one, two = (episodes.draw(tiny_store, EpisodeJob("all", shot, "all", 4, "test", 0)) for shot in (1, 3))
    names = (tiny_store.classes["part"] == "test").sum()
    assert two.support.shape == (4, names, 3)
    assert np.array_equal(two.support[:, :, :1], one.support)
    assert np.array_equal(np.unique(two.query), np.unique(one.query))
    assert (two.query == two.query[:1]).all()
    assert not np.intersect1d(two.support, two.query).size
    labels = tiny_store.labels[two.support]
    assert (labels == labels[:, :, :1]).all()
    assert (labels[0, :, 0] == tiny_store.labels[two.query[0, :, 0]]).all()
    assert (two.base == tiny_store.rows("held_out")).all()
    assert len({tuple(row) for row in one.support[:, :, 0].tolist()}) == 4, "every draw is another"


def test_classes_with_few_images_give_what_they_have(caplog):
    classes = [(np.arange(2), np.arange(10, 13)), (np.arange(5, 10), np.arange(20, 21))]
    support, query, base = episodes.draw_exemplars(classes, np.array([30, 31]), 3, 2, 0)
    assert sorted(support[0, 0].tolist()) == [-1, 0, 1]
    assert (support[:, 1] >= 0).all()
    assert query[0].tolist() == [[10, 11, 12], [20, -1, -1]]
    assert base.tolist() == [[30, 31]] * 2
    assert "1 of 2 classes have fewer than 3 exemplars" in caplog.text


def test_all_classes_together_need_images_to_learn_from(tiny_store):
    job = EpisodeJob("all", 1, "all", 4, "test", 0)
    episodes.require(tiny_store, job)
    tested, rows = tiny_store.held_out.copy(), tiny_store.rows("test")
    tested[rows[tiny_store.labels[rows] == tiny_store.labels[rows[0]]]] = True
    with pytest.raises(DataError, match="has test images only; give it images to learn from"):
        episodes.require(dataclasses.replace(tiny_store, held_out=tested), job)


def test_base_images_are_drawn_anew_for_each_task_from_all_that_are_held_out():
    held_out = np.arange(500, 509)
    _, _, base = episodes.draw_tasks(classes(6, 10), held_out, 3, 1, 2, 300, 0)
    assert set(np.unique(base)) == set(held_out)
    assert np.abs(np.unique(base, return_counts=True)[1] - 200).max() < 6 * np.sqrt(200)
    assert len({tuple(task) for task in base.tolist()}) > 290


def test_exemplars_follow_the_seed():
    groups = [(np.arange(0, 9), np.arange(20, 22)), (np.arange(9, 18), np.arange(22, 24))]
    first, again, other = (episodes.draw_exemplars(groups, np.arange(0), 3, 4, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_all_remaining_images_as_queries_need_classes_of_one_size(tiny_store):
    job = dataclasses.replace(JOB, queries="remaining")
    assert episodes.draw(tiny_store, job).query.shape == (30, 3, 18)
    rows, labels = tiny_store.rows("test"), tiny_store.labels.copy()
    labels[rows[-1]] = labels[rows[0]]  # an image of the last class is said to be one of the first
    with pytest.raises(DataError, match=r"classes of 19 to 21 images: .* remaining needs classes of one size"):
        episodes.require(dataclasses.replace(tiny_store, labels=labels), job)  # so it is said before a training too
