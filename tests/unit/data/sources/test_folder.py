import os
import re

import pytest
from PIL import Image

from fewshot import episodes
from fewshot.config import FolderSettings, load
from fewshot.data.held_out import divided
from fewshot.data.sources import folder, open_source
from fewshot.data.splits import drawn
from fewshot.errors import ConfigError, DataError
from fewshot.plan import EpisodeJob


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


def test_the_run_file_for_ones_own_images_does_with_what_it_says_it_wants(pytestconfig):
    path = pytestconfig.rootpath / "config" / "runs" / "folder.yaml"
    classes, images = map(int, re.search(r"wants (\d+) classes or more, of (\d+) images or more", path.read_text()).groups())
    config = load(path)
    parts = [part for _, part in drawn([f"class{i}" for i in range(classes)], config.dataset.shares, config.dataset.seed)]
    validations = [network.training.validation for network in config.stage1.networks.values()]
    evaluation = config.evaluation
    assert parts.count("test") >= evaluation.way
    assert all(parts.count("val") >= validation.way for validation in validations)
    assert images == max(max(evaluation.shots) + evaluation.queries, *(one.shot + one.queries for one in validations))


def test_split_file(tmp_path, kit, monkeypatch):
    make(kit, tmp_path / "photos", classes=3)
    (tmp_path / "photos" / "split.csv").write_text("class,part\nclass2,base\nclass0,test\nclass1,val\n")
    monkeypatch.chdir(tmp_path)
    settings = settings_for(tmp_path / "photos", split="photos/split.csv")  # no stray file, whichever way it is named
    store = kit.prepared(folder.source(settings), settings, tmp_path / "store")
    assert store.classes["name"].tolist() == ["class2", "class1", "class0"]
    assert store.meta["notes"] == ["Not in a class folder, so left out: readme.txt."]


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
    cut = tmp_path / "photos" / "class1" / "9.png"
    cut.write_bytes(kit.picture(0, (50, 40))[:45])  # its head is whole
    settings = settings_for(tmp_path / "photos")
    with pytest.raises(DataError, match=rf"^{cut}: the image does not decode .*; replace the file or remove it"):
        kit.prepared(folder.source(settings), settings, tmp_path / "store", workers=workers)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_all_files_that_are_no_images_are_named_at_once(tmp_path, kit):
    make(kit, tmp_path / "photos")
    for i in range(5):
        (tmp_path / "photos" / "class1" / f"notes{i}.txt").write_text("text")
    with pytest.raises(DataError, match=r"Pillow knows: class1/notes0\.txt, .*notes2\.txt and 2 more; remove from the class"):
        folder.source(settings_for(tmp_path / "photos"))


@pytest.mark.parametrize(("cut", "words"), [(3, r"s/class1/2\.png \([^,]*\); replace the files"), (12, r" and more; replace")])
@pytest.mark.parametrize("workers", [1, 2])
def test_images_that_are_cut_short_are_named_at_once(tmp_path, kit, cut, words, workers):
    make(kit, tmp_path / "photos", classes=3, images=12)
    for i in range(cut):
        (tmp_path / "photos" / "class1" / f"{i}.png").write_bytes(kit.picture(0, (50, 40))[:45])
    settings = settings_for(tmp_path / "photos")
    with pytest.raises(DataError, match=r"do not decode: .*photos/class1/0\.png \(.*\), .*" + words) as caught:
        kit.prepared(open_source(settings), settings, tmp_path / "store", workers=workers)
    assert str(caught.value).count("class1/") == min(cut, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("name", [b"a\rb", b"a\nb", b"a\x1bb", b"caf\xe9"])
@pytest.mark.parametrize("inside", [False, True])
def test_names_that_no_table_holds_are_refused_in_one_line(tmp_path, kit, name, inside):
    make(kit, tmp_path / "photos")
    root = os.fsencode(tmp_path / "photos" / ("class1" if inside else ""))
    if inside:
        with open(os.path.join(root, name + b".png"), "wb") as file:  # noqa: PTH118, PTH123
            file.write(kit.picture(0, (9, 9)))
    else:
        os.mkdir(os.path.join(root, name))  # noqa: PTH102, PTH118
    with pytest.raises(DataError, match=r"photos.*: the name '.*' in it holds a control .* is not UTF-8; rename it$") as caught:
        folder.source(settings_for(tmp_path / "photos"))
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_classes_with_odd_names(tmp_path, kit, monkeypatch):
    names = ["#1", "#2", " led", "led", 'quo"ted', "a,b", "führer", "NA"]
    for i, name in enumerate(names):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "x.png").write_bytes(kit.picture(i, (9, 9)))
    rows = '#1,base\n# a remark\n#2, test\n led,base\nled ,val\n"quo""ted",base\n"a,b",base\nführer,test\nNA,base\n'
    (tmp_path / "split.csv").write_text(f'# split "by hand\nclass,part\n{rows}', encoding="utf-8")
    settings = settings_for(tmp_path / "photos", split=str(tmp_path / "split.csv"), held_out=0)
    with open(os.fsencode(tmp_path / "photos") + b"/caf\xe9\r.txt", "wb"):  # noqa: PTH123 - what is left out may be called anything
        pass
    store = kit.prepared(open_source(settings), settings, tmp_path / "store")
    assert store.meta["notes"] == [r"Not in a class folder, so left out: caf\udce9\r.txt."]
    assert store.classes["name"].tolist() == ["#1", " led", 'quo"ted', "a,b", "NA", "led", "#2", "führer"]


def test_a_decompression_bomb_is_refused_in_one_line(tmp_path, kit, monkeypatch):
    make(kit, tmp_path / "photos")
    Image.new("L", (60, 60)).save(tmp_path / "photos" / "class1" / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"class1/huge\.png: .*3600 pixels.*; shrink the image, or remove it"):
        folder.source(settings_for(tmp_path / "photos"))


@pytest.mark.parametrize(("side", "found"), [(9, 16), (48, 48), (300, 84)])
def test_the_size_is_found_from_the_images(tmp_path, kit, side, found):
    make(kit, tmp_path / "photos", classes=3)
    for i in range(3):
        for j in range(8):
            (tmp_path / "photos" / f"class{i}" / f"more{j}.png").write_bytes(kit.picture(0, (side + 7 * j, side)))
    settings = settings_for(tmp_path / "photos").model_copy(update={"image_size": None})
    store = kit.prepared(open_source(settings), settings, tmp_path / "store")
    assert store.image_size == found
    assert f"Images are of {found} px, found from their shorter sides" in store.meta["notes"][-1]


def test_bad_folders(tmp_path, kit):
    root = tmp_path / "photos"
    with pytest.raises(DataError, match=r"no such folder; dataset.folder names"):
        folder.source(settings_for(root))
    root.write_text("a file")
    with pytest.raises(DataError, match=r"photos: is a file; dataset.folder names the folder whose sub-folders are"):
        folder.source(settings_for(root))
    root.unlink()
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


def test_every_settings_class_names_a_source():
    from importlib import import_module
    from typing import get_args

    from fewshot.config import DatasetSettings

    for kind in get_args(get_args(DatasetSettings)[0]):
        assert callable(import_module(kind.model_construct().module).source)


def test_a_long_tailed_set_is_split_by_its_counts_and_tested_on_its_own_images(tmp_path, kit):
    """iNaturalist's protocol in small: classes of 2, 3, 9 and 12 images; base from 5 on; test images in a second folder."""
    for i, images in enumerate((2, 12, 3, 9)):
        for part, count in (("train", images), ("val", i)):  # class0 has no test images
            (tmp_path / part / f"class{i}").mkdir(parents=True) if count else None
            for j in range(count):
                place = tmp_path / part / f"class{i}" / f"{j}.png"
                place.write_bytes(kit.picture(40 * i + j + (20 if part == "val" else 0), (9, 12)))
    (tmp_path / "val" / "labels.txt").touch()
    settings = settings_for(tmp_path / "train", base_at_least=5, test_folder=str(tmp_path / "val"))
    store = kit.prepared(folder.source(settings), settings, tmp_path / "store")
    assert store.classes["name"].tolist() == ["class1", "class3", "class0", "class2"]
    assert store.classes["part"].tolist() == ["base", "base", "test", "test"]
    assert "Base classes are the 2 of 4 with at least 5 images" in store.meta["notes"][0]
    assert "Not in a class folder, so left out: labels.txt." in store.meta["notes"]
    assert len(store.rows("base")) == 21
    assert len(store.rows("held_out")) == 4
    (few, none), (train, test) = divided(store, "test")
    assert [len(rows) for rows in (few, none, train, test)] == [2, 0, 3, 2]
    drawn = episodes.draw(store, EpisodeJob("all", 5, "all", 2, "test", 0))
    assert (drawn.support >= 0).sum(2).tolist() == [[2, 3]] * 2
    assert sorted(drawn.query[0][drawn.query[0] >= 0].tolist()) == test.tolist()
    for threshold in (2, 100):
        with pytest.raises(DataError, match=r"base and novel classes are both needed: set dataset\.base_at_least"):
            folder.source(settings_for(tmp_path / "train", base_at_least=threshold))
    (tmp_path / "val" / "stranger").mkdir()
    (tmp_path / "val" / "stranger" / "0.png").write_bytes(kit.picture(1, (9, 9)))
    with pytest.raises(DataError, match=r"class 'stranger' is not in dataset\.folder"):
        folder.source(settings)
    with pytest.raises(DataError, match=r"nothing: no such folder; dataset\.test_folder names the folder"):
        folder.source(settings_for(tmp_path / "train", test_folder=str(tmp_path / "nothing")))
