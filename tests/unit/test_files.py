import pytest

from fewshot.errors import DataError
from fewshot.files import atomic, read_json, replacing_folder


def test_missing_and_damaged_json_are_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.json: missing"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_json(tmp_path / "x.json")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "out"
    with replacing_folder(folder) as building:
        (building / "one").write_text("1")
    with pytest.raises(RuntimeError), replacing_folder(folder) as building:
        (building / "two").write_text("2")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["one"]
    with replacing_folder(folder) as building:
        (building / "three").write_text("3")
    assert [path.name for path in folder.iterdir()] == ["three"]
    assert list(tmp_path.iterdir()) == [folder]
