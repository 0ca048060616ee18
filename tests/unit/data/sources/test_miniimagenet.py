import pickle

import numpy as np
import pytest

from fewshot.config import MiniImageNetSettings
from fewshot.data.sources import miniimagenet
from fewshot.data.splits import published
from fewshot.errors import DataError

ROWS = published("miniimagenet")
FILES = {"base": "train", "val": "val", "test": "test"}


def settings_in(folder, **fields):
    return MiniImageNetSettings(name="miniimagenet", raw=str(folder), image_size=8, **fields)


def content(kit, number=2):
    files = {f"{name}.csv": "filename,label\n" for name in FILES.values()}
    images = {}
    for i, row in enumerate(ROWS):
        for j in range(number):
            name = f"{row['class']}{j:08d}.jpg"
            files[f"{FILES[row['part']]}.csv"] += f"{name},{row['class']}\n"
            images[f"images/{name}"] = kit.picture(2 * i + j, (16, 16))
    return {**images, **{name: text.encode() for name, text in files.items()}}  # the lists may come last


def check(kit, store, number=2):
    assert store.images.shape == (100 * number, 8, 8, 3)
    assert [(store.classes["part"] == part).sum() for part in ("base", "val", "test")] == [64, 16, 20]
    assert store.classes["name"][0] == "n01532829 house finch"
    assert kit.first_pixels(store) == [2 * i + j for i in range(100) for j in range(number)]


@pytest.mark.parametrize("top", ["", "miniimagenet/", "./"])
def test_tar(tmp_path, kit, top):
    packed = {top + name: data for name, data in content(kit).items()}
    kit.pack_tar(tmp_path / "miniimagenet.tar", packed, mode="w")
    settings = settings_in(tmp_path)
    store = kit.prepared(miniimagenet.source(settings, 2), settings, tmp_path / "store")
    check(kit, store)
    assert "no publisher's hash is known" in store.meta["notes"][0]
    assert store.meta["archives"]["miniimagenet.tar"]["checked"] is None


def test_unpacked_folder(tmp_path, kit):
    for name, data in content(kit).items():
        file = tmp_path / "miniimagenet" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    settings = settings_in(tmp_path)
    store = kit.prepared(miniimagenet.source(settings, 2), settings, tmp_path / "store")
    check(kit, store)
    assert "unpacked folder" in store.meta["notes"][0]
    assert store.meta["archives"] == {}


def change_csv(files, name, old, new):
    files[name] = files[name].replace(old, new)


CLASS, OTHER = ROWS[0]["class"].encode(), ROWS[99]["class"].encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("val.csv"), "val.csv is missing"),
        (lambda f: f.update({"val.csv": b"a,b\n1,2\n"}), "val.csv is not a csv file with filename,label"),
        (lambda f: change_csv(f, "train.csv", b"," + CLASS, b"," + OTHER), "lists class '.*', .* in part test"),
        (lambda f: change_csv(f, "train.csv", b"," + CLASS, b",n0"), "lists class 'n0', .* in no part"),
        (lambda f: f.update({"test.csv": f["test.csv"] * 2}), "lists filename|lists class 'label'|listed before"),
        (lambda f: f.update({"train.csv": f["train.csv"].replace(CLASS + b"00000001.jpg," + CLASS + b"\n", b"")}),
         "list 1 images of class 'n01532829', expected 2"),
        (lambda f: f.pop(f"images/{CLASS.decode()}00000001.jpg"), "images/n0153282900000001.jpg of class .* are missing"),
        (lambda f: f.update({f"images/{CLASS.decode()}00000001.jpg": b"no image"}),
         "miniimagenet.tar:images/n0153282900000001.jpg: the image does not decode"),
    ],
)  # fmt: skip
def test_wrong_content(tmp_path, kit, change, message):
    files = content(kit)
    change(files)
    kit.pack_tar(tmp_path / "raw" / "miniimagenet.tar", files, mode="w")
    settings = settings_in(tmp_path / "raw")
    with pytest.raises(DataError, match=message):
        kit.prepared(miniimagenet.source(settings, 2), settings, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def write_caches(folder, number=2, change=None, protocol=2):
    folder.mkdir(exist_ok=True)
    for part, name in FILES.items():
        labels = [row["class"] for row in ROWS if row["part"] == part]
        images = np.zeros((len(labels) * number, 84, 84, 3), dtype=np.uint8)
        first = [row["class"] for row in ROWS].index(labels[0])
        images += (2 * first + np.arange(len(images), dtype=np.uint8))[:, None, None, None]
        cache = {
            "image_data": images,
            "class_dict": {label: list(range(i * number, (i + 1) * number)) for i, label in enumerate(labels)},
        }
        if change:
            change(cache)
        (folder / f"mini-imagenet-cache-{name}.pkl").write_bytes(pickle.dumps(cache, protocol=protocol))


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles(tmp_path, kit, protocol):
    write_caches(tmp_path, protocol=protocol)
    settings = settings_in(tmp_path, layout="pickles")
    store = kit.prepared(miniimagenet.source(settings, 2), settings, tmp_path / "store")
    check(kit, store)
    assert set(store.meta["archives"]) == {f"mini-imagenet-cache-{name}.pkl" for name in FILES.values()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("class_dict"), "not a dict of image_data"),
        (lambda c: c.update(image_data=c["image_data"].astype(np.float32)), "not a dict of image_data"),
        (lambda c: c["class_dict"].update({ROWS[99]["class"]: c["class_dict"].popitem()[1]}), "is not in part"),
        (lambda c: c["class_dict"].update({next(iter(c["class_dict"])): [0, 10**6]}), "not a dict of image_data"),
        (lambda c: c["class_dict"].update({next(iter(c["class_dict"])): [0]}), "has 1 images, expected 2"),
    ],
)
def test_wrong_pickles(tmp_path, kit, change, message):
    write_caches(tmp_path / "raw", change=change)
    settings = settings_in(tmp_path / "raw", layout="pickles")
    with pytest.raises(DataError, match=message):
        kit.prepared(miniimagenet.source(settings, 2), settings, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"miniimagenet\.tar: archive missing; get the 60,000 images"):
        miniimagenet.source(settings_in(tmp_path))
    with pytest.raises(DataError, match=r"mini-imagenet-cache-train\.pkl: archive missing"):
        miniimagenet.source(settings_in(tmp_path, layout="pickles"))
