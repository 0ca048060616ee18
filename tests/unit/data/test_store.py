import json

import numpy as np
import pytest

from fewshot.data.store import open_store, require_images, write_store
from fewshot.errors import DataError
from fewshot.locks import replacing_folder, scratch_folder

CLASSES = [("a", "base"), ("b", "base"), ("c", "val"), ("d", "test")]
LABELS = np.repeat(np.arange(4), [5, 4, 3, 2])


def write(out, **changes):
    images = np.random.default_rng(0).integers(0, 256, (14, 6, 6, 3), dtype=np.uint8)
    held_out = np.zeros(14, dtype=bool)
    held_out[[1, 6, 13]] = True
    arguments = {
        "dataset": "toy",
        "settings": {"name": "toy"},
        "classes": CLASSES,
        "labels": LABELS,
        "held_out": held_out,
        "files": [f"file, {i}.png" for i in range(14)],
        "images": images,
        "image_size": 6,
        "archives": {"toy.zip": {"sha256": "0" * 64, "checked": None}},
        "notes": ["A remark."],
    }
    write_store(out, **(arguments | changes))
    return images


def test_round_trip(tmp_path):
    images = write(tmp_path / "deep" / "store")
    store = open_store(tmp_path / "deep" / "store")
    np.testing.assert_array_equal(store.images, images)
    np.testing.assert_array_equal(store.labels, LABELS)
    assert store.images.dtype == np.uint8
    assert store.labels.dtype == np.int64
    assert not store.images.flags.writeable
    assert store.classes["name"].tolist() == ["a", "b", "c", "d"]
    assert store.classes["images"].tolist() == [5, 4, 3, 2]
    assert store.num_base == 2
    assert store.image_size == 6
    assert store.meta["notes"] == ["A remark."]
    assert store.meta["archives"]["toy.zip"]["checked"] is None
    assert (tmp_path / "deep" / "store" / "images.csv").read_text().splitlines()[2] == '"file, 1.png",0,1'
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["store"]


def test_rows(tmp_path):
    write(tmp_path / "store")
    store = open_store(tmp_path / "store")
    assert store.rows("base").tolist() == [0, 2, 3, 4, 5, 7, 8]
    assert store.rows("held_out").tolist() == [1, 6]
    assert store.rows("val").tolist() == [9, 10, 11]
    assert store.rows("test").tolist() == [12, 13]  # the mark counts in base only
    assert store.rows("test").dtype == np.int64
    with pytest.raises(ValueError, match="no part 'novel'"):
        store.rows("novel")


def test_mean_and_std_are_of_base_images_that_are_not_held_out(tmp_path):
    images = write(tmp_path / "store")
    store = open_store(tmp_path / "store")
    kept = images[[0, 2, 3, 4, 5, 7, 8]].reshape(-1, 3) / 255
    np.testing.assert_allclose(store.mean, kept.mean(0), rtol=1e-12)
    np.testing.assert_allclose(store.std, kept.std(0), rtol=1e-9)


def test_chunks_make_no_difference(tmp_path):
    images = write(tmp_path / "whole")
    write(tmp_path / "chunks", images=iter([images[:3], images[3:4], images[4:]]))
    for name in ("images.npy", "labels.npy", "classes.csv", "images.csv", "meta.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "chunks" / name).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"held_out": np.zeros(14, dtype=bool)},
        {"classes": [("a", "base"), ("B", "base"), ("c", "val"), ("d", "test")]},
        {"classes": [("a", "base"), ("b", "val"), ("c", "val"), ("d", "test")]},
        {"labels": np.repeat(np.arange(4), [4, 5, 3, 2])},
        {"images": np.zeros((14, 6, 6, 3), dtype=np.uint8)},
    ],
)
def test_data_hash_depends_on_every_part(tmp_path, change):
    write(tmp_path / "one")
    write(tmp_path / "two", **change)
    assert open_store(tmp_path / "one").data_hash != open_store(tmp_path / "two").data_hash


def test_a_constant_channel_has_a_usable_std(tmp_path):
    write(tmp_path / "store", images=np.zeros((14, 6, 6, 3), dtype=np.uint8))
    assert open_store(tmp_path / "store").std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": LABELS[::-1]},
        {"labels": LABELS + 1},
        {"classes": CLASSES[::-1]},
        {"files": ["x"]},
        {"images": np.zeros((13, 6, 6, 3), dtype=np.uint8)},
        {"images": np.zeros((15, 6, 6, 3), dtype=np.uint8)},
        {"images": np.zeros((14, 6, 6, 3), dtype=np.float32)},
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, changes):
    with pytest.raises(ValueError, match=r"must be|go base|does not fit|images for"):
        write(tmp_path / "store", **changes)
    assert list(tmp_path.iterdir()) == []


def test_failure_midway_keeps_the_old_store(tmp_path):
    write(tmp_path / "store")
    before = open_store(tmp_path / "store").data_hash

    def broken():
        yield np.zeros((3, 6, 6, 3), dtype=np.uint8)
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write(tmp_path / "store", images=broken())
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert open_store(tmp_path / "store").data_hash == before


def test_an_old_store_is_replaced_whole(tmp_path):
    write(tmp_path / "store")
    (tmp_path / "store" / "left over").touch()
    write(tmp_path / "store", notes=[])
    assert open_store(tmp_path / "store").meta["notes"] == []
    assert not (tmp_path / "store" / "left over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_left_overs_of_a_killed_process_are_swept_and_those_in_use_are_not(tmp_path):
    dead = tmp_path / ".store.xyz.partial"
    dead.mkdir()
    (dead / ".lock").touch()
    with scratch_folder(tmp_path / "store") as first, replacing_folder(tmp_path / "store") as second:
        assert not dead.exists()
        assert first.exists()
        (second / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_open_store_missing(tmp_path):
    with pytest.raises(DataError, match=r"no image store here; prepare the data set first"):
        open_store(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "classes.csv", "images.csv", "meta.json"])
@pytest.mark.parametrize("harm", ["removed", "cut", "emptied"])
def test_open_store_damaged(tmp_path, name, harm):
    write(tmp_path / "store")
    file = tmp_path / "store" / name
    if harm == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if harm == "emptied" else file.stat().st_size // 2])
    with pytest.raises(DataError) as caught:
        open_store(tmp_path / "store")
    assert name in str(caught.value)
    assert "prepare the data set again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whoever_reads_no_pixels_does_not_check_them(tmp_path):
    write(tmp_path / "store")
    file = tmp_path / "store/images.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert open_store(tmp_path / "store", images=False).labels.tolist() == LABELS.tolist()
    with pytest.raises(DataError, match=r"images\.npy: damaged \(its hash"):
        open_store(tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("images.csv", ",0,1\n", ",3,1\n"),
        ("classes.csv", "0,a,base,5", "0,a,base,6"),
        ("classes.csv", "0,a,base", "0,a,novel"),
        ("meta.json", '"image_size": 6', '"image_size": 7'),
        ("meta.json", '"format": 1', '"format": 99'),
    ],
)
def test_open_store_inconsistent(tmp_path, edit_record, name, old, new):
    write(tmp_path / "store")
    file = tmp_path / "store" / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(DataError, match="damaged"):  # by the hash
        open_store(tmp_path / "store")
    if name == "meta.json":
        edit_record(file, **{key: json.loads(file.read_text())[key] for key in ("format", "image_size")})
    else:
        edit_record(tmp_path / "store/meta.json")
    with pytest.raises(DataError, match="store"):  # by the content
        open_store(tmp_path / "store")


def test_meta_is_readable(tmp_path):
    write(tmp_path / "store")
    meta = json.loads((tmp_path / "store" / "meta.json").read_text())
    assert {"format", "dataset", "settings", "archives", "data_hash", "image_size", "mean", "std", "notes"} <= set(meta)


def test_require_images(tmp_path):
    write(tmp_path / "store")
    store = open_store(tmp_path / "store")
    require_images(store, "test", {"shots": 1, "queries": 1})
    require_images(store, "base", {"shots": 1, "queries": 2})
    require_images(store, "held_out", {"shots": 0, "queries": 1})
    few = r"store: too few images in 1 of 1 classes \(test\), the fewest in 'd', 2; "
    with pytest.raises(DataError, match=few + r"evaluation needs shots 1 \+ queries 2 = 3: lower evaluation\.shots or eval"):
        require_images(store, "test", {"shots": 1, "queries": 2})
    with pytest.raises(DataError, match=r"needs shot 2 \+ 1 = 3: lower activation_maps\.shot, or add images$"):
        require_images(store, "test", {"shot": 2}, where="activation_maps")
    with pytest.raises(DataError, match=r"v needs shot 1 \+ queries 2 = 3: lower v\.shot or v\.queries, or add images$"):
        require_images(store, "test", {"shot": 1, "queries": 2}, where="v")
    with pytest.raises(DataError, match=r"too few held-out images in 2 of 2 classes \(held_out\), the fewest in 'a', 1; "):
        require_images(store, "held_out", {"shots": 1, "queries": 1})


def test_require_images_of_a_part_without_classes(tmp_path):
    write(tmp_path / "store", classes=[("a", "base"), ("b", "base"), ("c", "test"), ("d", "test")])
    with pytest.raises(DataError, match="0 classes in part val"):
        require_images(open_store(tmp_path / "store"), "val", {"shots": 1, "queries": 0})


def test_mean_and_std_do_not_depend_on_how_many_images_are_counted_at_once(tmp_path, monkeypatch):
    write(tmp_path / "whole")
    monkeypatch.setattr("fewshot.data.store.MEBIBYTE", 3 * 6 * 6 * 3)  # seven images count: three, three and one
    write(tmp_path / "blocks")
    assert (tmp_path / "whole/meta.json").read_bytes() == (tmp_path / "blocks/meta.json").read_bytes()
