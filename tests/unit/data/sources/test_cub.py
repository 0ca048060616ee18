import pytest

from fewshot.config import CubSettings
from fewshot.data.sources import cub
from fewshot.data.splits import published
from fewshot.errors import DataError

CLASSES = sorted(row["class"] for row in published("cub_few_shot"))
HASHES = {"CUB_200_2011.tgz": "none"}


def content(kit, classes=CLASSES):
    """Four images a class; the first two are the official training images."""
    files = [(name, f"{name}/bird_{j}.jpg", j) for name in classes for j in range(4)]
    tables = {
        "images.txt": [f"{i + 1} {file}" for i, (_, file, _) in enumerate(files)],
        "image_class_labels.txt": [f"{i + 1} {CLASSES.index(name) + 1}" for i, (name, _, _) in enumerate(files)],
        "train_test_split.txt": [f"{i + 1} {int(j < 2)}" for i, (_, _, j) in enumerate(files)],
        "classes.txt": [f"{i + 1} {name}" for i, name in enumerate(CLASSES) if name in classes],
    }
    images = {f"CUB_200_2011/images/{file}": kit.picture(10 * j, (12, 9), "JPEG", "L") for _, file, j in files}
    images["CUB_200_2011/images/._hidden.jpg"] = b"of a desktop"
    return {
        "attributes.txt": b"",
        **images,
        **{f"CUB_200_2011/{name}": ("\n".join(lines) + "\n").encode() for name, lines in tables.items()},
    }


def settings_in(folder, **fields):
    return CubSettings(name="cub", raw=str(folder), hashes=HASHES, image_size=8, **fields)


def test_few_shot(tmp_path, kit):
    kit.pack_tar(tmp_path / "CUB_200_2011.tgz", content(kit))
    settings = settings_in(tmp_path, held_out=0.25)
    store = kit.prepared(cub.source(settings, images=800), settings, tmp_path / "store")
    assert [(store.classes["part"] == part).sum() for part in ("base", "val", "test")] == [100, 50, 50]
    assert [len(store.rows(part)) for part in ("base", "held_out", "val", "test")] == [300, 100, 200, 200]
    assert store.classes["name"][1] == "003.Sooty_Albatross"


def test_halves_hold_out_the_official_test_images(tmp_path, kit):
    kit.pack_tar(tmp_path / "CUB_200_2011.tgz", content(kit))
    settings = settings_in(tmp_path, split="halves")
    store = kit.prepared(cub.source(settings, images=800), settings, tmp_path / "store")
    assert [len(store.rows(part)) for part in ("base", "held_out", "val", "test")] == [200, 200, 0, 400]
    assert set(store.images[store.rows("held_out")][:, 0, 0, 0].tolist()) == {20, 30}
    none = settings_in(tmp_path, split="halves", held_out=0)
    store = kit.prepared(cub.source(none, images=800), none, tmp_path / "none")
    assert not store.held_out.any()


def test_part_of_the_set(tmp_path, kit):
    kit.pack_tar(tmp_path / "CUB_200_2011.tgz", content(kit, CLASSES[:10]))
    with pytest.raises(DataError, match=r"class '011\.Rusty_Blackbird' is missing; .*partial: true"):
        cub.source(settings_in(tmp_path))
    settings = settings_in(tmp_path, partial=True)
    store = kit.prepared(cub.source(settings), settings, tmp_path / "store")
    assert [(store.classes["part"] == part).sum() for part in ("base", "val", "test")] == [5, 3, 2]
    assert "a part of CUB only: 10 of 200 classes, 40 of 11788 images" in store.meta["notes"][1]


def test_part_without_base_classes(tmp_path, kit):
    kit.pack_tar(tmp_path / "CUB_200_2011.tgz", content(kit, CLASSES[1:2]))
    with pytest.raises(DataError, match="holds no base class of split few_shot"):
        cub.source(settings_in(tmp_path, partial=True))


def test_halves_of_a_part_are_those_of_the_classes_that_are_there(tmp_path, kit):
    kit.pack_tar(tmp_path / "CUB_200_2011.tgz", content(kit, CLASSES[:9]))
    settings = settings_in(tmp_path, partial=True, split="halves")
    assert [part for _, part in cub.source(settings).classes] == ["base"] * 5 + ["test"] * 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CUB_200_2011/classes.txt", "classes.txt is missing"),
        ("CUB_200_2011/images/003.Sooty_Albatross/bird_1.jpg", "003.Sooty_Albatross/bird_1.jpg .* are missing"),
    ],
)
def test_missing_member(tmp_path, kit, name, message):
    files = content(kit)
    del files[name]
    kit.pack_tar(tmp_path / "raw" / "CUB_200_2011.tgz", files)
    settings = settings_in(tmp_path / "raw")
    with pytest.raises(DataError, match=message):
        kit.prepared(cub.source(settings, images=800), settings, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_images_that_are_not_listed_and_counts(tmp_path, kit):
    files = content(kit)
    kit.pack_tar(tmp_path / "CUB_200_2011.tgz", files)
    with pytest.raises(DataError, match="lists 800 images, expected 11788"):
        cub.source(settings_in(tmp_path))
    files["CUB_200_2011/images/003.Sooty_Albatross/other.jpg"] = b""
    kit.pack_tar(tmp_path / "CUB_200_2011.tgz", files)
    settings = settings_in(tmp_path)
    with pytest.raises(DataError, match=r"other.jpg is not in images.txt"):
        kit.prepared(cub.source(settings, images=800), settings, tmp_path / "store")


def test_lists_that_disagree(tmp_path, kit):
    files = content(kit)
    files["CUB_200_2011/image_class_labels.txt"] = files["CUB_200_2011/image_class_labels.txt"].replace(b"1 1\n", b"1 2\n", 1)
    kit.pack_tar(tmp_path / "CUB_200_2011.tgz", files)
    with pytest.raises(DataError, match=r"as class '002.Laysan_Albatross'"):
        cub.source(settings_in(tmp_path))
