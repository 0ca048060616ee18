import pickle

import numpy as np
import pytest

from fewshot.config import CifarFsSettings, Fc100Settings
from fewshot.data.sources import cifar100
from fewshot.data.splits import published
from fewshot.errors import DataError

FINE = sorted(row["class"] for row in published("fc100"))
SUPER = {row["class"]: row["superclass"] for row in published("fc100")}
COARSE = sorted(set(SUPER.values()))
COUNTS = {"train": 2, "test": 1}


def parts():
    """Every class: train images of value 10, test images of value 20; red plane first."""
    content = {}
    for part, number in COUNTS.items():
        labels = [label for label in range(100) for _ in range(number)]
        planes = np.zeros((len(labels), 3, 1024), dtype=np.uint8)
        planes[:, 0] = np.array(labels)[:, None]
        planes[:, 2] = 10 if part == "train" else 20
        content[part] = {
            b"filenames": [b"same_name.png"] * len(labels),
            b"fine_labels": labels,
            b"coarse_labels": [COARSE.index(SUPER[FINE[label]]) for label in labels],
            b"data": planes.reshape(-1, 3072),
        }
    content["meta"] = {
        b"fine_label_names": [name.encode() for name in FINE],
        b"coarse_label_names": [name.encode() for name in COARSE],
    }
    return content


def settings_in(folder, kind=Fc100Settings, **fields):
    name = "fc100" if kind is Fc100Settings else "cifar_fs"
    return kind(name=name, raw=str(folder), hashes={"cifar-100-python.tar.gz": "none"}, **fields)


def pack(kit, folder, content):
    files = {f"cifar-100-python/{name}": pickle.dumps(value, protocol=2) for name, value in content.items()}
    kit.pack_tar(folder / "cifar-100-python.tar.gz", {"cifar-100-python/file.txt~": b"", **files})


@pytest.mark.parametrize(("kind", "counts"), [(Fc100Settings, (60, 20, 20)), (CifarFsSettings, (64, 16, 20))])
def test_store(tmp_path, kit, kind, counts):
    pack(kit, tmp_path, parts())
    settings = settings_in(tmp_path, kind)
    store = kit.prepared(cifar100.source(settings, COUNTS), settings, tmp_path / "store")
    assert tuple((store.classes["part"] == part).sum() for part in ("base", "val", "test")) == counts
    assert store.images.shape == (300, 32, 32, 3)
    assert len(store.rows("held_out")) == counts[0]  # one image of each base class
    names = store.classes["name"].to_numpy()
    for row in range(300):
        assert store.images[row, 5, 7, 0] == FINE.index(names[store.labels[row]])
    assert sorted(np.unique(store.images[..., 2]).tolist()) == [10, 20]
    assert "not checked" in store.meta["notes"][0]


def test_other_size(tmp_path, kit):
    pack(kit, tmp_path, parts())
    settings = settings_in(tmp_path, image_size=40)
    store = kit.prepared(cifar100.source(settings, COUNTS), settings, tmp_path / "store")
    assert store.images.shape == (300, 40, 40, 3)


def break_(content, change):
    train = content["train"]
    if change == "meta missing":
        del content["meta"]
    elif change == "class renamed":
        content["meta"][b"fine_label_names"][0] = b"pear tree"
    elif change == "count":
        train[b"fine_labels"][0] = 1
    elif change == "superclass":
        train[b"coarse_labels"][0] = (train[b"coarse_labels"][0] + 1) % 20
    elif change == "shape":
        train[b"data"] = train[b"data"][:, :-1]
    elif change == "no data":
        del train[b"data"]
    elif change == "no dict":
        content["train"] = [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("meta missing", "meta is missing"),
        ("class renamed", "disagrees with the known classes about 'apple'"),
        ("count", "train has 1 images of class 'apple', expected 2"),
        ("superclass", "has class 'apple' under another superclass"),
        ("shape", "arrays that do not fit together"),
        ("no data", "lacks data"),
        ("no dict", "lacks data"),
    ],
)
def test_archive_that_is_not_the_set(tmp_path, kit, change, message):
    content = parts()
    break_(content, change)
    pack(kit, tmp_path / "raw", content)
    settings = settings_in(tmp_path / "raw")
    with pytest.raises(DataError, match=message) as caught:
        kit.prepared(cifar100.source(settings, COUNTS), settings, tmp_path / "store")
    assert "get CIFAR-100" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_the_publishers_hash_is_asked_for(tmp_path, kit):
    pack(kit, tmp_path, parts())
    with pytest.raises(DataError, match=r"md5 is .* expected eb9058c3a382ffc7106e4002c42a8d85"):
        cifar100.source(Fc100Settings(name="fc100", raw=str(tmp_path)))
