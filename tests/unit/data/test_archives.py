import gzip
import hashlib
import io
import stat
import tarfile
import zipfile

import pytest

from fewshot.data import archives
from fewshot.data.archives import Known, find, members, refuse_unknown
from fewshot.errors import ConfigError, DataError

KNOWN = Known("set.tar.gz", "the Set from its page", max_member=1000, max_total=2500)


def member(name, data=b"", kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def write_tar(path, *entries, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return path


def write_zip(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(name, data)
    return path


def listed(folder, known=KNOWN):
    return [(m.name, m.read()) for m in members(find(known, folder, {known.file: "none"}))]


GOOD = [member("a/", kind=tarfile.DIRTYPE), *(member(f"a/{i}", bytes([i]) * size) for i, size in enumerate((0, 1, 512, 700)))]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_members_come_in_order(tmp_path, mode):
    write_tar(tmp_path / KNOWN.file, *GOOD, mode=mode)
    assert listed(tmp_path) == [(info.name, data) for info, data in GOOD[1:]]


def test_members_need_not_be_read(tmp_path):
    write_tar(tmp_path / KNOWN.file, *GOOD)
    found = find(KNOWN, tmp_path, {})
    assert [m.size for m in members(found)] == [0, 1, 512, 700]
    assert [m.stream().read(2) for m in members(found)][2:] == [b"\2\2", b"\3\3"]


def test_gzip_is_decompressed_once(tmp_path, monkeypatch):
    write_tar(tmp_path / KNOWN.file, *(member(f"f{i}", b"x" * 512) for i in range(4)))
    rewound = []
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda self: rewound.append(1))
    assert len(listed(tmp_path)) == 4
    assert not rewound


def test_zip_members(tmp_path):
    write_zip(tmp_path / KNOWN.file, ("a/", b""), ("a/1", b"one"), ("a/2", b"two"))
    assert listed(tmp_path) == [("a/1", b"one"), ("a/2", b"two")]


# --- hashes ---------------------------------------------------------------------------------------------------------


def test_missing_archive_says_what_to_get_and_where_to_put_it(tmp_path):
    with pytest.raises(DataError, match=r"raw/set\.tar\.gz: archive missing; get the Set from its page and put it there"):
        find(KNOWN, tmp_path / "raw", {})


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_hash_that_agrees(tmp_path, kind):
    (tmp_path / KNOWN.file).write_bytes(b"content")
    digest = f"{kind}:{hashlib.new(kind, b'content').hexdigest()}"
    for known, hashes in ((Known("set.tar.gz", "it", digest), {}), (KNOWN, {"set.tar.gz": digest})):
        found = find(known, tmp_path, hashes)
        assert found.record == {"sha256": hashlib.sha256(b"content").hexdigest(), "checked": digest, "bytes": 7}
        assert found.note is None


def test_hash_that_differs_names_file_expected_found_and_cure(tmp_path):
    (tmp_path / KNOWN.file).write_bytes(b"content")
    with pytest.raises(DataError) as caught:
        find(Known("set.tar.gz", "the Set", "md5:" + "0" * 32), tmp_path, {})
    message = str(caught.value)
    for part in ("set.tar.gz", "0" * 32, hashlib.md5(b"content").hexdigest(), "get the Set again", "dataset.hashes"):
        assert part in message


def test_no_hash_leaves_a_note(tmp_path):
    (tmp_path / KNOWN.file).write_bytes(b"content")
    found = find(Known("set.tar.gz", "the Set", "md5:" + "0" * 32), tmp_path, {"set.tar.gz": "none"})
    assert found.record["checked"] is None
    assert "not checked, as the settings ask" in found.note
    assert "no publisher's hash is known" in find(KNOWN, tmp_path, {}).note


def test_hash_of_an_unknown_archive_is_refused():
    with pytest.raises(ConfigError, match=r"dataset.hashes names typo.tgz; this data set's archives are set.tar.gz"):
        refuse_unknown({"typo.tgz": "none"}, ("set.tar.gz",))


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (member("/etc/passwd", b"x"), "has an absolute path"),
        (member("C:\\x", b"x"), "has an absolute path"),
        (member("\\x", b"x"), "has an absolute path"),
        (member("a/../../x", b"x"), r"has '\.\.' in its path"),
        (member("..", kind=tarfile.DIRTYPE), r"has '\.\.' in its path"),
        (member("a\\..\\x", b"x"), r"has '\.\.' in its path"),
        (member("x", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link"),
        (member("x", kind=tarfile.LNKTYPE, linkname="good"), "is a link"),
        (member("x", kind=tarfile.CHRTYPE), "is a device"),
        (member("x", kind=tarfile.BLKTYPE), "is a device"),
        (member("x", kind=tarfile.FIFOTYPE), "is a device"),
        (member("x", b"0" * 1001), "has 1001 bytes, more than any file"),
        (member("good", b"x"), "is there twice"),
    ],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_member_refused(tmp_path, entry, reason, mode):
    write_tar(tmp_path / KNOWN.file, member("good", b"x"), entry, mode=mode)
    with pytest.raises(DataError, match=rf"set\.tar\.gz: member [^\n]* {reason}[^\n]*refused, get the Set"):
        listed(tmp_path)


def test_whole_size_is_bounded(tmp_path):
    write_tar(tmp_path / KNOWN.file, *(member(f"f{i}", b"0" * 900) for i in range(3)))
    with pytest.raises(DataError, match="member 'f2' takes the whole past 2500 bytes"):
        listed(tmp_path)


def test_header_that_asks_for_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "HEADER_BYTES", 1024)
    write_tar(tmp_path / KNOWN.file, member("n" * 100_000, b"x"))
    with pytest.raises(DataError, match="not a whole archive"):
        listed(tmp_path)


@pytest.mark.parametrize("name", ["/abs", "a/../../x", "..\\x"])
def test_zip_path_refused(tmp_path, name):
    write_zip(tmp_path / KNOWN.file, (name, b"x"))
    with pytest.raises(DataError, match="refused"):
        listed(tmp_path)


@pytest.mark.parametrize(("kind", "reason"), [(stat.S_IFLNK, "is a link"), (stat.S_IFCHR, "is a device")])
def test_zip_link_and_device_refused(tmp_path, kind, reason):
    info = zipfile.ZipInfo("x")
    info.external_attr = (kind | 0o777) << 16
    write_zip(tmp_path / KNOWN.file, (info, b"/etc/passwd"))
    with pytest.raises(DataError, match=reason):
        listed(tmp_path)


def test_zip_bomb_refused(tmp_path):
    write_zip(tmp_path / KNOWN.file, ("bomb", b"0" * 10_000_000))
    with pytest.raises(DataError, match="has 10000000 bytes"):
        listed(tmp_path)


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>" * 100, b"\x1f\x8b\x08\x00no gzip", b"PK\3\4no zip"])
def test_not_an_archive(tmp_path, data):
    (tmp_path / KNOWN.file).write_bytes(data)
    with pytest.raises(DataError, match=r"set\.tar\.gz: not a whole archive \([^\n]*\); get the Set from its page again$"):
        listed(tmp_path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["tar", "gz", "zip"])
def test_cut_off_archive(tmp_path, kind, kept):
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(28))
    path = tmp_path / KNOWN.file
    if kind == "zip":
        write_zip(path, ("a", noise), ("b", noise[::-1]))
    else:
        write_tar(path, member("a", noise), member("b", noise[::-1]), mode="w" if kind == "tar" else "w:gz")
    size = 2 * (512 + 1024) if kind == "tar" else path.stat().st_size  # what follows in a tar is padding
    path.write_bytes(path.read_bytes()[: int(size * kept)])
    with pytest.raises(DataError, match="not a whole archive"):
        listed(tmp_path)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.99])
def test_flipped_byte_in_a_gzip(tmp_path, place):
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(28))
    path = write_tar(tmp_path / KNOWN.file, member("a", noise), member("b", noise[::-1]))
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(DataError):
        listed(tmp_path)
