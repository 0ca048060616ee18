from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.data.splits import checked, drawn, published, published_split, read_split
from fewshot.errors import DataError


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("fc100", (60, 20, 20)),
        ("cifar_fs", (64, 16, 20)),
        ("miniimagenet", (64, 16, 20)),
        ("cub_few_shot", (100, 50, 50)),
        ("cub_halves", (100, 0, 100)),
        ("omniglot", (1028, 172, 423)),
    ],
)
def test_published_counts(name, counts):
    found = Counter(part for _, part in published_split(name))
    assert tuple(found[part] for part in ("base", "val", "test")) == counts


def test_fc100_keeps_superclasses_whole():
    parts = {}
    for row in published("fc100"):
        parts.setdefault(row["superclass"], set()).add(row["part"])
    assert len(parts) == 20
    assert all(len(found) == 1 for found in parts.values())
    assert Counter(next(iter(found)) for found in parts.values()) == {"base": 12, "val": 4, "test": 4}


def test_fc100_and_cifar_fs_share_classes_and_superclasses():
    fc100, cifar_fs = ({row["class"]: row["superclass"] for row in published(name)} for name in ("fc100", "cifar_fs"))
    assert fc100 == cifar_fs


def test_cub_rules():
    for name, part in published_split("cub_few_shot"):
        i = int(name[:3]) - 1
        assert part == ("base" if i % 2 == 0 else "val" if i % 4 == 1 else "test")
    for name, part in published_split("cub_halves"):
        assert part == ("base" if int(name[:3]) <= 100 else "test")


def test_omniglot_gurmukhi_straddles():
    parts = dict(published_split("omniglot"))
    assert [parts[f"Gurmukhi/character{i:02d}"] for i in (41, 42, 45)] == ["base", "test", "test"]


@pytest.mark.parametrize("read", [published, published_split])
def test_a_list_that_is_missing_or_has_other_columns_is_one_line(tmp_path, monkeypatch, read):
    monkeypatch.setattr("fewshot.data.splits.resources.files", lambda package: tmp_path)
    cure = r"write the list with the columns part,class \(docs/adding/dataset\.md\)$"
    with pytest.raises(DataError, match=r"splits/marks\.csv: split file missing; " + cure):
        read("marks")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "marks.csv").write_text("# who says so\npart,name\nbase,anchor\n")
    with pytest.raises(DataError, match=r"splits/marks\.csv: the columns are part, name; " + cure):
        read("marks")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "base"), ("b", "train")], "has the part 'train'; parts are base, val, test"),
        ([("a", "base"), ("b", "val"), ("a", "test")], "class 'a' is in two parts, base and test"),
        ([("a", "base"), ("b", "val"), ("a", "base")], "class 'a' is listed twice"),
        ([("a", "base"), ("b", "val"), ("x", "val")], "class 'x' is not in the data set"),
        ([("a", "base")], "class 'b' is in no part"),
        ([("a", "val"), ("b", "test")], "no class is in part base"),
    ],
)
def test_checked_refuses(rows, message):
    with pytest.raises(DataError, match=message) as caught:
        checked(rows, "split.csv", ["a", "b"])
    assert str(caught.value).startswith("split.csv: ")
    assert "\n" not in str(caught.value)


def test_checked_orders_by_part():
    rows = [("d", "test"), ("b", "val"), ("c", "base"), ("a", "base")]
    assert checked(rows, "", "abcd") == (("c", "base"), ("a", "base"), ("b", "val"), ("d", "test"))


def test_read_split(tmp_path):
    file = tmp_path / "split.csv"
    file.write_text("\ufeffpart, class ,remark\n# a remark\ntest,b,x\nbase, a,\n", encoding="utf-8")
    assert read_split(file, ["a", "b"]) == (("a", "base"), ("b", "test"))


@pytest.mark.parametrize("content", [b"name,where\na,base\n", b"", b"\x89PNG\r\n\x00\xff", b"class,part\na,base,x\nb\n"])
def test_read_split_refuses(tmp_path, content):
    file = tmp_path / "split.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"split\.csv: [^\n]*$"):
        read_split(file, ["a", "b"])


def test_read_split_missing(tmp_path):
    with pytest.raises(DataError, match="split file missing; write one"):
        read_split(tmp_path / "none.csv", ["a"])


shares = st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)).map(
    lambda numbers: tuple(number / sum(numbers) for number in numbers)
)


@given(number=st.integers(3, 200), shares=shares, seed=st.integers(0, 2**32))
def test_drawn_splits_place_every_class_once(number, shares, seed):
    classes = [f"class{i}" for i in range(number)]
    split = drawn(classes, shares, seed)
    assert sorted(name for name, _ in split) == sorted(classes)
    assert split == drawn(classes, shares, seed)
    counts = Counter(part for _, part in split)
    for part, share in zip(("base", "val", "test"), shares, strict=True):
        assert (counts[part] > 0) == (share > 0)
        assert abs(counts[part] - share * number) <= 2


def test_drawn_needs_enough_classes():
    with pytest.raises(DataError, match="2 classes cannot fill 3 parts"):
        drawn(["a", "b"], (0.5, 0.25, 0.25), 0)


def test_drawn_seeds_differ():
    classes = [str(i) for i in range(30)]
    assert drawn(classes, (0.5, 0.2, 0.3), 0) != drawn(classes, (0.5, 0.2, 0.3), 1)


def test_a_header_with_a_line_end_in_it_is_still_one_line(tmp_path):
    (tmp_path / "split.csv").write_bytes(b'"cla\rss",part\na,base\n')
    with pytest.raises(DataError, match=r"split\.csv: the columns are cla\\rss, part; it needs class and part") as error:
        read_split(tmp_path / "split.csv", ["a"])
    assert len(str(error.value).splitlines()) == 1
