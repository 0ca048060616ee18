import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.config import TrainingSettings
from fewshot.data.held_out import divided, held_out_rows
from fewshot.data.store import open_store, write_store
from fewshot.data.trained_images import trained_on, validated_on
from fewshot.errors import DataError


@given(
    name=st.text(max_size=20),
    images=st.integers(2, 700),
    share=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 2**40),
)
def test_held_out_choice(name, images, share, seed):
    rows = held_out_rows(name, images, share, seed)
    assert len(set(rows.tolist())) == len(rows)
    assert rows.tolist() == sorted(rows.tolist())
    assert rows.tolist() == held_out_rows(name, images, share, seed).tolist()
    if share == 0:
        assert len(rows) == 0
    else:
        assert 1 <= len(rows) <= images - 1
        assert 0 <= rows.min() <= rows.max() < images
        assert abs(len(rows) - share * images) <= 1


def test_held_out_choice_depends_on_seed_and_class():
    rows = held_out_rows("a", 100, 0.3, 0).tolist()
    assert rows != held_out_rows("a", 100, 0.3, 1).tolist()
    assert rows != held_out_rows("b", 100, 0.3, 0).tolist()


def test_held_out_needs_two_images():
    assert len(held_out_rows("a", 1, 0.0, 0)) == 0
    with pytest.raises(DataError, match=r"class 'a' has only 1 image; .* set dataset.held_out to 0"):
        held_out_rows("a", 1, 0.1, 0)


def _store(path, held_out, share=0.25, novel="test"):
    """Two base and two other classes of four images each."""
    labels = np.repeat(np.arange(4), 4)
    write_store(
        path, dataset="folder", settings={"held_out": share, "seed": 0}, labels=labels, held_out=held_out,
        classes=[("a", "base"), ("b", "base"), ("c", novel), ("d", novel)], files=[str(i) for i in range(16)],
        images=np.zeros((16, 8, 8, 3), dtype=np.uint8), image_size=8,
    )  # fmt: skip
    return open_store(path)


def test_novel_classes_are_divided_by_the_same_draw_as_base_classes(tmp_path):
    store = _store(tmp_path / "store", np.zeros(16, dtype=bool))
    for name, first, (train, test) in zip("cd", (8, 12), divided(store, "test"), strict=True):
        assert test.tolist() == (first + held_out_rows(name, 4, 0.25, 0)).tolist()
        assert sorted([*train, *test]) == list(range(first, first + 4))


def test_an_official_division_comes_first(tmp_path):
    marks = np.zeros(16, dtype=bool)
    marks[[0, 9, 10]] = True
    (_, test), (train, none) = divided(_store(tmp_path / "store", marks), "test")
    assert test.tolist() == [9, 10]
    assert (len(train), len(none)) == (4, 0)
    marks[12:] = True
    with pytest.raises(DataError, match="class 'd' has test images only"):
        divided(_store(tmp_path / "other", marks), "test")


def test_without_test_images_the_cure_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no held-out images; evaluation\.way: all needs dataset\.held_out above 0$"):
        divided(_store(tmp_path / "store", np.zeros(16, dtype=bool), share=0.0), "test")


def test_held_out_images_of_all_trained_classes_are_validated_on_and_not_trained_on(tmp_path):
    marks = np.zeros(16, dtype=bool)
    marks[[1, 6]] = True
    store = _store(tmp_path / "store", marks, novel="val")
    few_shot, base = TrainingSettings(), TrainingSettings(validation={"measure": "classification"})
    both = TrainingSettings(validation={"measure": "classification"}, classes="base+val")
    off = TrainingSettings(validation={"every": 0, "keep": "last"}, classes="base+val")
    unmarked = sorted(set(range(8)) - {1, 6})
    for training, classes in ((few_shot, "ab"), (base, "ab"), (off, "abcd"), (both, "abcd")):
        assert trained_on(store, training)[1] == list(classes)
    assert trained_on(store, few_shot)[0].tolist() == trained_on(store, base)[0].tolist() == unmarked
    assert trained_on(store, off)[0].tolist() == [*unmarked, *range(8, 16)]
    assert validated_on(store, base).tolist() == [1, 6]
    (_, c), (_, d) = divided(store, "val")
    assert validated_on(store, both).tolist() == [1, 6, *c, *d]
    assert trained_on(store, both)[0].tolist() == sorted({*unmarked, *range(8, 16)} - {*c, *d})
    bare = _store(tmp_path / "bare", np.zeros(16, dtype=bool), novel="val")
    with pytest.raises(DataError, match=r"no held-out images of base classes; stage1\.training\.validation\.measure"):
        trained_on(bare, base)
