"""Files of kilobytes that stand for gigabytes: every reader refuses them, or takes what is harmless, in bounded memory."""

import gzip
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fewshot import transfer
from fewshot.data.store import TABLES

ROOT = Path(__file__).parents[2]
STANDS_FOR = 512 << 20
"""Bytes, at least."""
MOST = 40
"""Megabytes of memory, for the worst of them."""
SECONDS = 20
"""On a busy machine, for the worst of them."""


def zeros(size: int) -> bytes:
    """So many zeros, gzipped, made piece by piece."""
    packer, piece = zlib.compressobj(1, wbits=31), bytes(1 << 20)
    return b"".join([*(packer.compress(piece) for _ in range(size >> 20)), packer.flush()])


def zipped(size: int, count: int = 1) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for number in range(count):
            with file.open(f"member{number}", "w") as member:
                for _ in range(size >> 20):
                    member.write(bytes(1 << 20))
    return out.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def long_name(size: int) -> bytes:
    """A header that says that a name of so many letters follows."""
    return header("././@LongLink", size, tarfile.GNUTYPE_LONGNAME)


def sparse() -> bytes:
    """A member that says it is a sparse file of a terabyte."""
    info = tarfile.TarInfo("member")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


def array(shape: tuple[int, ...]) -> bytes:
    """The head of an .npy file, without values."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<i8", "fortran_order": False, "shape": shape})
    return out.getvalue()


def stored(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in ("support", "query", "base", "meta"):
            file.writestr(f"{name}.npy", content)
    return out.getvalue()


def table(rows: int, compression: str) -> bytes:
    out, piece = io.BytesIO(), pa.table({"task": np.zeros(1 << 20, np.int64), "novel": np.zeros(1 << 20)})
    with parquet.ParquetWriter(out, piece.schema, compression=compression) as file:
        for _ in range(rows >> 20):
            file.write_table(piece)
    return out.getvalue()


def picture(side: int) -> bytes:
    """A PNG file of black pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compressobj(1)
    rows = [*(pixels.compress(bytes(1 + side)) for _ in range(side)), pixels.flush()]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"".join(rows)) + chunk(b"IEND", b"")


def lying_zip() -> bytes:
    """Its directory says that a member has 1000 bytes."""
    size = 64 << 20
    return zipped(size).replace(struct.pack("<L", size), struct.pack("<L", 1000))


def packed_npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, support=np.zeros(1 << 24, np.int64), query=np.zeros(1), base=np.zeros(1), meta=np.zeros(1))
    return out.getvalue()


BOMBS = {
    "archives-zip": lambda: zipped(STANDS_FOR),
    "archives-zip-of-many": lambda: zipped(1 << 20, STANDS_FOR >> 20),
    "archives-zip-that-lies": lying_zip,
    "archives-tar": lambda: header("member", 1 << 40),
    "archives-tar-sparse": sparse,
    "archives-tar-long-name": lambda: long_name(1 << 30),
    "archives-tgz": lambda: gzip.compress(header("member", STANDS_FOR)) + zeros(STANDS_FOR),
    "archives-tgz-long-name": lambda: gzip.compress(long_name(STANDS_FOR)) + zeros(STANDS_FOR),
    "archives-tgz-after-the-end": lambda: gzip.compress(header("member", 0) + bytes(10240)) + zeros(STANDS_FOR),
    "packed-settings": lambda: gzip.compress(header(transfer.CONFIG, STANDS_FOR)) + zeros(STANDS_FOR),
    "packed-long-name": lambda: gzip.compress(long_name(STANDS_FOR)) + zeros(STANDS_FOR),
    "unpickler-bytes": lambda: pickle.PROTO + b"\x05" + pickle.BINBYTES8 + struct.pack("<Q", 1 << 40),
    "unpickler-bytearray": lambda: pickle.PROTO + b"\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 1 << 40),
    "episodes-npz": packed_npz,
    "episodes-npz-without-values": lambda: stored(array((1 << 40,))),
    "episodes-npz-of-half-a-gigabyte": lambda: stored(array((STANDS_FOR // 8,))),
    "store-images": lambda: b"\0" + array((1 << 36, 8)),
    "store-labels": lambda: bytes([1 + TABLES.index("labels.npy")]) + array((1 << 40,)),
    "results-parquet": lambda: table(64 << 20, "snappy"),
    "results-parquet-zstd": lambda: table(64 << 20, "zstd"),
    "pictures-png": lambda: picture(24_000),
    "config-yaml": lambda: (
        b"a: &a [1,1,1,1,1,1,1,1,1]\n"
        + b"".join(b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 115))
    ),
    "config-yaml-of-merges": lambda: (
        b"a: &a {k: 1}\n"
        + b"".join(b"%c: &%c {<<: [%s]}\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 115))
    ),
    "config-yaml-of-one-long-number": lambda: b"title: 1" + b":1" * 49_000 + b"\n",
    "config-yaml-of-unknown-keys": lambda: b"".join(b"%d: 1\n" % i for i in range(11_000)),
}  # fmt: skip
"""Reader and kind -> the file."""
HARMLESS = {"archives-tgz-after-the-end"}

READ_ALL = """
import ctypes, gc, json, re, sys, time
from pathlib import Path
from tests.fuzz.target import check
from tests.fuzz.targets import TARGETS

def peak():  # of this process since it was last set back; what getrusage tells begins with its parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

for target in TARGETS.values():
    check(target, target.seeds()[0])
for path in sorted(Path(sys.argv[1]).iterdir()):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free, and not given back, would hide what is taken
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is held now
    before, start = peak(), time.monotonic()
    taken = check(TARGETS[path.name.partition("-")[0]], path.read_bytes())
    print(json.dumps([path.name, taken, peak() - before, time.monotonic() - start]), flush=True)
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """File -> whether it was taken, megabytes that it took at its peak, and seconds."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, make in BOMBS.items():
        (folder / name).write_bytes(make())
    done = subprocess.run([sys.executable, "-c", READ_ALL, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, re.sub(r"(?s)^.{20000,}(.{4000})$", r"\1", done.stderr)
    print(done.stdout)
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}, folder


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_stands_for_gigabytes_takes_bounded_memory_and_time(read, name):
    found, folder = read
    assert (folder / name).stat().st_size < STANDS_FOR // 50
    taken, grown, seconds = found[name]
    assert grown < MOST
    assert seconds < SECONDS
    assert taken == (name in HARMLESS)
