import pytest
from PIL import Image

from fewshot.config import FolderSettings
from fewshot.data.sources import SOURCES, folder, open_source
from fewshot.errors import ConfigError, DataError


def make(kit, root, classes=5, images=3):
    for i in range(classes):
        place = root / f"class{i}"
        place.mkdir(parents=True)
        for j in range(images):
            (place / f"{j}.png").write_bytes(kit.picture(10 * i + j, (9 + j, 12)))
    (root / "readme.txt").touch()
    (root / "class0" / ".DS_Store").touch()
    (root / "class0" / "Thumbs.db").touch()


def settings_for(root, **fields):
    return FolderSettings(name="folder", folder=str(root), image_size=8, **fields)


def test_drawn_split(tmp_path, kit):
    make(kit, tmp_path / "photos")
    settings = settings_for(tmp_path / "photos", seed=3)
    store = kit.prepared(open_source(settings), settings, tmp_path / "store")
    assert [(store.classes["part"] == part).sum() for part in ("base", "val", "test")] == [3, 1, 1]
    expected = [10 * int(name[-1]) + j for name in store.classes["name"] for j in range(3)]
    assert kit.first_pixels(store) == expected
    assert "drawn from seed 3" in store.meta["notes"][0]


def test_split_file(tmp_path, kit):
    make(kit, tmp_path / "photos", classes=3)
    split = tmp_path / "split.csv"
    split.write_text("class,part\nclass2,base\nclass0,test\nclass1,val\n")
    settings = settings_for(tmp_path / "photos", split=str(split))
    store = kit.prepared(folder.source(settings), settings, tmp_path / "store")
    assert store.classes["name"].tolist() == ["class2", "class1", "class0"]
    assert store.meta["notes"] == []


def test_split_that_shares_a_class(tmp_path, kit):
    make(kit, tmp_path / "photos", classes=3)
    split = tmp_path / "split.csv"
    split.write_text("class,part\nclass2,base\nclass0,test\nclass1,val\nclass2,test\n")
    with pytest.raises(DataError, match=r"split\.csv: class 'class2' is in two parts, base and test"):
        folder.source(settings_for(tmp_path / "photos", split=str(split)))


def test_orientation_and_names_with_spaces(tmp_path, kit):
    make(kit, tmp_path / "photos", classes=3)
    picture = Image.new("RGB", (8, 8), "black")
    picture.paste("white", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3
    picture.save(tmp_path / "photos" / "class0" / "a b, c.jpg", exif=exif, quality=95)
    settings = settings_for(tmp_path / "photos", held_out=0)
    store = kit.prepared(folder.source(settings), settings, tmp_path / "store")
    label = store.classes["name"].tolist().index("class0")
    image = store.images[store.labels.tolist().index(label) + 3]  # after 0.png, 1.png, 2.png
    assert image[0].max() < 60
    assert image[7].min() > 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_is_no_image_is_named(tmp_path, kit, workers):
    make(kit, tmp_path / "photos")
    (tmp_path / "photos" / "class1" / "notes.txt").write_text("text")
    settings = settings_for(tmp_path / "photos")
    with pytest.raises(DataError, match=r"class1/notes\.txt: the image does not decode .*; replace the file or remove it"):
        kit.prepared(folder.source(settings), settings, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_bad_folders(tmp_path, kit):
    root = tmp_path / "photos"
    with pytest.raises(DataError, match=r"no such folder; dataset.folder names"):
        folder.source(settings_for(root))
    root.mkdir()
    with pytest.raises(DataError, match="no sub-folders"):
        folder.source(settings_for(root))
    make(kit, root)
    (root / "class9").mkdir()
    with pytest.raises(DataError, match="class9: class folder without images"):
        folder.source(settings_for(root))
    (root / "class9" / "deeper").mkdir()
    with pytest.raises(DataError, match="class9/deeper: a folder inside a class folder"):
        folder.source(settings_for(root))


def test_hashes_make_no_sense_here(tmp_path, kit):
    make(kit, tmp_path / "photos")
    with pytest.raises(ConfigError, match="archives are none"):
        folder.source(settings_for(tmp_path / "photos", hashes={"x.zip": "none"}))


def test_every_settings_class_has_a_source():
    from typing import get_args

    from fewshot.config import DatasetSettings

    assert set(SOURCES) == set(get_args(get_args(DatasetSettings)[0]))
