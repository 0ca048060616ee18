"""The real data sets, from archives in their publishers' layout to stores.

The archives are rebuilt from the compact copies beside the project, or taken from the folder FEWSHOT_ARCHIVES names.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from fewshot.config import DatasetSettings
from fewshot.data.prepare import prepare
from fewshot.data.store import Store, open_store

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SCRIPT = SHARED / "build_archives.py"
GIVEN = os.environ.get("FEWSHOT_ARCHIVES")
FILES = {
    "cifar100": ("cifar-100-python.tar.gz",),
    "cub": ("CUB_200_2011.tgz",),
    "omniglot": ("images_background.zip", "images_evaluation.zip"),
    "miniimagenet": ("miniimagenet.tar",),
}

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not (GIVEN or SCRIPT.is_file()), reason="no real data beside the project"),
]


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """A function: data set -> folder that holds its archives."""
    built = Path(GIVEN) if GIVEN else tmp_path_factory.mktemp("archives")

    def folder(name: str) -> Path:
        if not all((built / file).is_file() for file in FILES[name]):
            if GIVEN:
                pytest.skip(f"no archive of {name} in FEWSHOT_ARCHIVES")
            subprocess.run([sys.executable, SCRIPT, built, name], check=True, stdout=subprocess.DEVNULL, timeout=900)
        return built

    return folder


def store_of(raw: Path, archive: str, out: Path, workers: int = 2, **settings: object) -> Store:
    """Prepare with the hashes unchecked: the rebuilt archives are not the publishers' bytes."""
    hashes = dict.fromkeys(FILES[archive], "none")
    parsed = TypeAdapter(DatasetSettings).validate_python({"raw": str(raw), "hashes": hashes, **settings})
    prepare(parsed, out, workers=workers, progress=False)
    store = open_store(out)
    assert all("not checked" in note for note in store.meta["notes"][: len(hashes)])
    assert all(record["checked"] is None and record["sha256"] for record in store.meta["archives"].values())
    return store


def counts(store: Store) -> dict[str, tuple[int, int]]:
    """Part -> (classes, images)."""
    return {
        part: (
            int((store.classes["part"] == part).sum()),
            int(store.classes.loc[store.classes["part"] == part, "images"].sum()),
        )
        for part in ("base", "val", "test")
    }


@pytest.mark.parametrize(
    ("name", "expected", "data_hash"),
    [
        (
            "fc100",
            {"base": (60, 36_000), "val": (20, 12_000), "test": (20, 12_000)},
            "2de38cfcf77e1fbad95fa07df1464ceb7328bd0e971892fe035f346024946139",
        ),
        (
            "cifar_fs",
            {"base": (64, 38_400), "val": (16, 9_600), "test": (20, 12_000)},
            "89e399a972abf6bc5e2b9a7553f6d21242e16dbb7a03ce62f37ab2bbce8ec273",
        ),
    ],
)
def test_cifar100(archives, tmp_path, name, expected, data_hash):
    store = store_of(archives("cifar100"), "cifar100", tmp_path / "store", name=name)
    assert counts(store) == expected
    assert (store.classes["images"] == 600).all()
    assert len(store.rows("held_out")) == expected["base"][0] * 100
    assert store.data_hash == data_hash
    files = pd.read_csv(tmp_path / "store" / "images.csv")["file"]
    train = store.images[files.str.startswith("cifar-100-python/train/").to_numpy()]
    assert len(train) == 50_000
    values = train.reshape(-1, 3)
    # the published statistics of the official training images
    np.testing.assert_allclose(values.mean(axis=0) / 255, (0.50707516, 0.48654887, 0.44091784), atol=1e-7)


def test_cub(archives, tmp_path):
    raw = archives("cub")
    store = store_of(raw, "cub", tmp_path / "store", name="cub", partial=True)
    assert {part: number for part, (number, _) in counts(store).items()} == {"base": 25, "val": 13, "test": 12}
    assert len(store.labels) == 2_889
    assert "a part of CUB only: 50 of 200 classes" in store.meta["notes"][1]
    again = store_of(raw, "cub", tmp_path / "again", workers=1, name="cub", partial=True)
    assert again.data_hash == store.data_hash
    halves = store_of(raw, "cub", tmp_path / "halves", name="cub", partial=True, split="halves")
    assert len(halves.rows("base")) == 750
    assert len(halves.rows("held_out")) == 652
    assert len(halves.rows("test")) == 2_889 - 750 - 652


def test_omniglot(archives, tmp_path):
    store = store_of(archives("omniglot"), "omniglot", tmp_path / "store", name="omniglot")
    assert counts(store) == {"base": (4_112, 82_240), "val": (688, 13_760), "test": (1_692, 33_840)}
    assert store.images.shape == (129_840, 28, 28, 3)
    assert 0.05 < store.mean[0] < 0.11  # ink is bright and rare
    plain = store_of(archives("omniglot"), "omniglot", tmp_path / "plain", name="omniglot", rotations=False)
    assert counts(plain) == {"base": (1_028, 20_560), "val": (172, 3_440), "test": (423, 8_460)}


@pytest.mark.slow
def test_miniimagenet(archives, tmp_path):
    store = store_of(archives("miniimagenet"), "miniimagenet", tmp_path / "store", name="miniimagenet")
    assert counts(store) == {"base": (64, 38_400), "val": (16, 9_600), "test": (20, 12_000)}
    assert (store.classes["images"] == 600).all()
    assert store.images.shape == (60_000, 84, 84, 3)
    np.testing.assert_allclose(store.mean, (0.472, 0.453, 0.410), atol=0.01)  # as published for the training classes
