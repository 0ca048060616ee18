import io

import numpy as np
import pytest
from PIL import Image

from fewshot.config import OmniglotSettings
from fewshot.data.sources import omniglot
from fewshot.errors import DataError

CHARACTERS = (("Latin/character01", "base"), ("Latin/character02", "val"), ("Greek/character01", "test"))
HASHES = {"images_background.zip": "none", "images_evaluation.zip": "none"}


def drawing():
    """Ink (0) in the upper left quarter of white paper, 1 bit, as published."""
    picture = Image.new("1", (105, 105), 1)
    picture.paste(0, (0, 0, 52, 52))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def pack(kit, folder, drop=None, extra=None):
    tops = {"images_background": CHARACTERS[:2], "images_evaluation": CHARACTERS[2:]}
    for top, characters in tops.items():
        files = {f"{top}/{name}/{i:04d}_{i:02d}.png": drawing() for name, _ in characters for i in range(1, 21)}
        files.update({f"__MACOSX/{top}/x": b"", f"{top}/.DS_Store": b"", f"{top}/Latin/.DS_Store": b""})
        files.update((extra or {}).get(top, {}))
        files.pop(drop, None)
        kit.pack_zip(folder / f"{top}.zip", files)


def settings_in(folder, **fields):
    return OmniglotSettings(name="omniglot", raw=str(folder), hashes=HASHES, **fields)


def test_rotations_are_classes(tmp_path, kit):
    pack(kit, tmp_path)
    settings = settings_in(tmp_path, held_out=0.15)
    store = kit.prepared(omniglot.source(settings, CHARACTERS), settings, tmp_path / "store")
    assert store.images.shape == (240, 28, 28, 3)
    assert store.classes["name"].tolist()[:5] == [
        *(f"Latin/character01/rot{angle}" for angle in ("000", "090", "180", "270")),
        "Latin/character02/rot000",
    ]
    assert [len(store.rows(part)) for part in ("base", "held_out", "val", "test")] == [68, 12, 80, 80]
    for label, corner in enumerate([(3, 3), (24, 3), (24, 24), (3, 24)]):  # counter-clockwise
        image = store.images[np.flatnonzero(store.labels == label)[0]]
        assert image[corner].tolist() == [255, 255, 255]  # ink is 255
        assert np.count_nonzero(image[:, :, 0] > 127) == pytest.approx(14 * 14, abs=30)


def test_without_rotations(tmp_path, kit):
    pack(kit, tmp_path)
    settings = settings_in(tmp_path, rotations=False)
    store = kit.prepared(omniglot.source(settings, CHARACTERS), settings, tmp_path / "store")
    assert store.classes["name"].tolist() == [name for name, _ in CHARACTERS]
    assert len(store.labels) == 60


def test_the_nearest_pixel_is_what_snells_code_takes_and_bilinear_means_are_greys(tmp_path, kit):
    kept = np.random.default_rng(0).random((105, 105)) < 0.5
    picture, stream = Image.fromarray(kept), io.BytesIO()  # mode 1
    picture.save(stream, "PNG")
    pack(kit, tmp_path, extra={"images_background": {"images_background/Latin/character01/0001_01.png": stream.getvalue()}})
    found = {}
    for resampling in ("nearest", "bilinear"):
        settings = settings_in(tmp_path, resampling=resampling)
        source = omniglot.source(settings, CHARACTERS)
        found[resampling] = kit.prepared(source, settings, tmp_path / resampling).images[0, :, :, 0]
        assert (omniglot.GREYS in source.notes) is (resampling == "bilinear")
    snells = 1 - np.asarray(picture.resize((28, 28)), dtype=np.float32)  # as that code has it: no filter is named
    np.testing.assert_array_equal(found["nearest"], 255 * snells)
    assert len(np.unique(found["bilinear"])) > 50


def test_known_set():
    """1,028 / 172 / 423 characters, four rotations each."""
    assert sum(1 for _ in omniglot.published_split("omniglot")) == 1623


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": "images_background/Latin/character02/0003_03.png"}, "class 'Latin/character02/rot000' has 19 images"),
        (
            {"extra": {"images_evaluation": {"images_evaluation/Runes/character01/1_01.png": b""}}},
            "Runes/character01/1_01.png is no drawing of a known character; get images_evaluation.zip",
        ),
        (
            {"extra": {"images_background": {"images_background/Latin/character02/0003_03.png": b"no"}}},
            "0003_03.png: the image does not decode",
        ),
    ],
)
def test_wrong_content(tmp_path, kit, changes, message):
    pack(kit, tmp_path / "raw", **changes)
    settings = settings_in(tmp_path / "raw")
    with pytest.raises(DataError, match=message):
        kit.prepared(omniglot.source(settings, CHARACTERS), settings, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_second_archive_missing(tmp_path, kit):
    pack(kit, tmp_path)
    (tmp_path / "images_evaluation.zip").unlink()
    with pytest.raises(DataError, match=r"images_evaluation\.zip: archive missing; get images_evaluation\.zip of Omniglot"):
        omniglot.source(settings_in(tmp_path), CHARACTERS)
