import numpy as np
import pytest

from fewshot.episodes import Episodes
from fewshot.errors import DataError
from fewshot.files import write_record
from fewshot.predictions import FILE, accuracies, load, shares


def test_shares_against_a_loop_over_images(rng):
    num_base, way = 3, 4
    classes, labels = rng.integers(0, way, 30), rng.integers(0, num_base, 20)
    said = np.stack([rng.integers(0, num_base + way, 50), np.r_[rng.integers(0, way, 30), rng.integers(0, 3, 20)]], axis=1)
    wanted = {name: [] for name in ("novel", "base", "novel_in_all", "base_in_all", "all")}
    for i, (among_all, among_own) in enumerate(said):
        is_novel = i < 30
        truth = classes[i] if is_novel else labels[i - 30]
        kind = "novel" if is_novel else "base"
        wanted[kind].append((truth, among_own == truth))
        right = among_all == (truth + num_base if is_novel else truth)
        wanted[f"{kind}_in_all"].append((truth, right))
        wanted["all"].append((truth + num_base if is_novel else truth, right))
    found = shares(said.astype(np.int32), classes, labels, num_base, tuple(wanted))
    for name, images in wanted.items():
        assert found[name] == pytest.approx(100 * np.mean([right for _, right in images]))
        per_class = [np.mean([right for one, right in images if one == c]) for c in {one for one, _ in images}]
        assert found[name + "_class_mean"] == pytest.approx(100 * np.mean(per_class))


def test_places_that_are_filled_up_do_not_count():
    """Two novel classes of one and two test images; labels of the store: row i has class i // 3."""
    episodes = Episodes(
        support=np.zeros((1, 2, 1), int), query=np.array([[[6, -1], [9, 10]]]), base=np.array([[0]]), meta={"hash": ""}
    )
    said = np.array([[[2, 0], [-1, -1], [3, 1], [0, 0], [0, 0]]], dtype=np.int32)
    found = accuracies(episodes, said, np.arange(12) // 3, 2, ("novel", "all"), 1)
    assert found["novel"].tolist() == pytest.approx([200 / 3])
    assert found["all"].tolist() == [75.0]
    assert found["novel_class_mean"].tolist() == [75.0]


def test_both_is_all_images_among_all_classes(rng):
    """As networks without stage 2 have it: the same as `all`."""
    classes, labels = rng.integers(0, 4, 30), rng.integers(0, 3, 20)
    said = np.stack([rng.integers(0, 7, 50), np.r_[rng.integers(0, 4, 30), rng.integers(0, 3, 20)]], axis=1).astype(np.int32)
    found = shares(said, classes, labels, 3, ("both", "all", "novel", "base"))
    truth = np.r_[classes + 3, labels]
    assert found["both"] == found["all"] == pytest.approx(100 * np.mean(said[:, 0] == truth))


def test_predictions_of_another_network_are_refused(tmp_path):
    np.save(tmp_path / FILE, np.zeros((1, 2, 2), np.int32))
    write_record(tmp_path / "adapt.json", {"network_sha256": "a", "episodes_hash": "t"}, (FILE,))
    tasks = Episodes(np.zeros((1, 1, 1), int), np.zeros((1, 1, 2), int), np.zeros((1, 0), int), {"hash": "t"})
    assert load(tmp_path, "a", tasks).shape == (1, 2, 2)
    with pytest.raises(DataError, match="another network or other tasks"):
        load(tmp_path, "b", tasks)
