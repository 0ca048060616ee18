"""Reading archives that come from elsewhere: found, hashed, and read member by member, never extracted.

Members with an absolute or `..` path, links and devices are refused, and sizes are bounded before anything is read.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from fewshot.errors import ConfigError, DataError

MEBIBYTE = 2**20
HEADER_BYTES = MEBIBYTE
"""A tar header (long names and the like) never needs more than this."""
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
)
"""What reading a broken archive can raise."""


@dataclass(frozen=True)
class Known:
    """What is known about a publisher's archive."""

    file: str
    """File name, as the publisher has it."""
    content: str
    """What to get: the data set's name and its home, in words."""
    hash: str | None = None
    """`sha256:...` or `md5:...` of the publisher's file, where it is known."""
    max_member: int = 64 * MEBIBYTE
    """No member is larger, in bytes."""
    max_total: int = 8 * 1024 * MEBIBYTE
    """All members together are no larger, in bytes."""


class Archive(NamedTuple):
    """An archive that was found and whose hash was looked at."""

    path: Path
    known: Known
    record: dict[str, str | int | None]
    """{sha256: the hash found, checked: the hash it agreed with, or None, bytes: the file's size}."""
    note: str | None
    """A sentence for the report when nothing was checked."""


def find(known: Known, folder: Path, hashes: Mapping[str, str]) -> Archive:
    """Find an archive in `folder` and check its hash.

    Args:
        known: the archive.
        folder: where the archives lie.
        hashes: file name -> `sha256:...`, `md5:...` or `none`, in place of the known hash.

    Raises:
        DataError: the file is missing, or its hash is another.
    """
    path = folder / known.file
    if not path.is_file():
        raise DataError(f"{path}: archive missing; get {known.content} and put it there under this name")
    expected = hashes.get(known.file, known.hash)
    if expected == "none":
        expected = None
    kinds = {"sha256"} | ({expected.partition(":")[0]} if expected else set())
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    size = 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(4 * MEBIBYTE):
                size += len(block)
                for digest in digests.values():
                    digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend its permissions or copy it again") from None
    sha256 = digests["sha256"].hexdigest()
    note = None
    if expected is not None:
        kind, _, digits = expected.partition(":")
        found = digests[kind].hexdigest()
        if found != digits:
            raise DataError(
                f"{path}: {kind} is {found}, expected {digits}; get {known.content} again, "
                f"or give this file's hash (or none) in dataset.hashes"
            )
    elif known.file in hashes:
        note = f"The hash of {known.file} was not checked, as the settings ask (sha256 {sha256})."
    else:
        note = f"The hash of {known.file} was not checked: no publisher's hash is known (sha256 {sha256})."
    return Archive(path, known, {"sha256": sha256, "checked": expected, "bytes": size}, note)


def refuse_unknown(hashes: Mapping[str, str], names: tuple[str, ...]) -> None:
    """Refuse a hash for a file that the data set does not read.

    Raises:
        ConfigError: names the file and those the set reads.
    """
    for name in hashes:
        if name not in names:
            raise ConfigError(f"dataset.hashes names {name}; this data set's archives are {', '.join(names) or 'none'}")


class Member(NamedTuple):
    """A regular file in an archive."""

    name: str
    size: int
    read: Callable[[], bytes]
    """The content; to be called before the next member is asked for."""
    stream: Callable[[], IO[bytes]]
    """The content as a file; to be opened and read before the next member is asked for."""


def members(archive: Archive) -> Iterator[Member]:
    """The regular files of an archive (tar, gzipped tar or zip, told by the content), in its order, one pass.

    Raises:
        DataError: the file is no archive or is cut off, a member is refused, or a size goes over the bounds.
    """
    path = archive.path
    try:
        with path.open("rb") as raw:
            magic = raw.read(4)
        yield from _zip_members(archive) if magic[:2] == b"PK" else _tar_members(archive, magic[:2] == b"\x1f\x8b")
    except DAMAGE as error:
        raise damaged(archive, error) from None


def damaged(archive: Archive, error: Exception) -> DataError:
    """The error for an archive that cannot be read on."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{archive.path}: not a whole archive ({reason}); get {archive.known.content} again")


class _Bounds:
    """Names and sizes of the members so far, checked one by one."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.total = archive, 0
        self.names: set[str] = set()

    def refuse(self, name: str, reason: str) -> DataError:
        content = self.archive.known.content
        return DataError(f"{self.archive.path}: member {name!r} {reason}; refused, get {content} again")

    def check(self, name: str, size: int, kind: str) -> None:
        parts = name.replace("\\", "/").split("/")
        if parts[0] == "" or re.match(r"[A-Za-z]:", name):
            raise self.refuse(name, "has an absolute path")
        if ".." in parts:
            raise self.refuse(name, "has '..' in its path")
        if kind:
            raise self.refuse(name, f"is a {kind}")
        self.total += size
        if size > self.archive.known.max_member:
            raise self.refuse(name, f"has {size} bytes, more than any file of this set")
        if self.total > self.archive.known.max_total:
            raise self.refuse(name, f"takes the whole past {self.archive.known.max_total} bytes, more than this set has")
        if name in self.names:
            raise self.refuse(name, "is there twice")
        self.names.add(name)


class _Forward:
    """A binary file for tarfile that is read forward only, and never more at a time than a member may have.

    tarfile steps back by one byte between members, for which gzip would start again from the beginning; and a header can
    ask for any number of bytes.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self.stream, self.limit = stream, limit
        self.position, self.back, self.last, self.block = 0, 0, b"", b""

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.limit:
            raise ValueError(f"a header asks for {size} bytes")
        if size == 0:
            return b""
        data = self.stream.read(size - self.back)
        self.position += len(data)
        if self.back:
            data, self.back = self.last + data, 0
        self.last = data[-1:]
        self.block = data
        return data

    def tell(self) -> int:
        return self.position - self.back

    def seek(self, offset: int) -> int:
        if offset == self.position - 1 and self.last:
            self.back = 1
        else:
            self.back, self.last = 0, b""
            self.position = self.stream.seek(offset)
        return offset


def _tar_members(archive: Archive, gzipped: bool) -> Iterator[Member]:
    bounds = _Bounds(archive)
    with archive.path.open("rb") as raw:
        plain: Any = gzip.GzipFile(fileobj=raw) if gzipped else raw
        forward: Any = _Forward(plain, archive.known.max_member + HEADER_BYTES)
        with tarfile.open(fileobj=forward, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep a record of every member
                kind = "" if info.isreg() or info.isdir() else "device or other special file"
                if info.issym() or info.islnk():
                    kind = "link"
                bounds.check(info.name, 0 if info.isdir() else info.size, kind)
                if not info.isdir():
                    yield _member(archive, info.name, info.size, partial(_tar_stream, tar, info))
            if forward.block != bytes(tarfile.BLOCKSIZE):  # tarfile takes a header that is cut off for the end
                raise tarfile.ReadError("the end is missing")
        if gzipped:
            _drain(plain)


def _tar_stream(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    if file is None:
        raise tarfile.ReadError(f"{info.name} has no content")
    return file


def _member(archive: Archive, name: str, size: int, stream: Callable[[], IO[bytes]]) -> Member:
    """A member whose `read` turns damage into one line; it runs in the reader's frame, not in the generator's."""

    def read() -> bytes:
        try:
            with stream() as file:
                data = file.read(size + 1)  # of a member that says less than it has, zipfile would unpack the whole
        except DAMAGE as error:
            raise damaged(archive, error) from None
        if len(data) != size:
            raise damaged(archive, EOFError(f"member {name} is cut off"))
        return data

    return Member(name, size, read, stream)


def _drain(stream: Any) -> None:
    """Read what is left after the last member: only at its end does gzip compare its checksum."""
    for _ in range(64):
        if not stream.read(MEBIBYTE):
            return


def _zip_members(archive: Archive) -> Iterator[Member]:
    bounds = _Bounds(archive)
    with zipfile.ZipFile(archive.path) as file:
        for info in file.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = "link" if mode == stat.S_IFLNK else ""
            if mode not in (0, stat.S_IFLNK, stat.S_IFREG, stat.S_IFDIR):
                kind = "device or other special file"
            bounds.check(info.filename, info.file_size, kind)
            if not info.is_dir():
                yield _member(archive, info.filename, info.file_size, partial(file.open, info))
