"""Readers of what people bring: archives, pickles in them, settings, splits, pictures."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
from PIL import Image

from fewshot import transfer
from fewshot.config import RunConfig, load
from fewshot.data.archives import MEBIBYTE, Archive, Known, members
from fewshot.data.decoding import _decode_batch, _refuse
from fewshot.data.pictures import decode_image
from fewshot.data.splits import read_split
from fewshot.data.unpickle import load_restricted
from fewshot.plan import Plan
from tests.fuzz.target import Target

ROOT = Path(__file__).parents[2]

# --- archives --------------------------------------------------------------------------------------------------------

KNOWN = Known("archive", "the set", max_member=MEBIBYTE, max_total=4 * MEBIBYTE)


def _archives() -> list[bytes]:
    tar, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        for name in ("a/b.txt", "long/" * 30 + "name"):
            info = tarfile.TarInfo(name)
            info.size = 700
            file.addfile(info, io.BytesIO(bytes(range(100)) * 7))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/b.txt", bytes(3000))
        file.writestr("c.txt", b"text")
    return [
        tar.getvalue(),
        gzip.compress(tar.getvalue(), mtime=0),
        zipped.getvalue(),
        gzip.compress(bytes(8 * MEBIBYTE), mtime=0),
    ]


def _read_archive(data: bytes, folder: Path) -> None:
    path = folder / "archive"
    path.write_bytes(data)
    total = 0
    for member in members(Archive(path, KNOWN, {}, None)):
        assert ".." not in member.name.split("/")
        assert not member.name.startswith("/")
        content = member.read()
        total += len(content)
        assert len(content) <= KNOWN.max_member
    assert total <= KNOWN.max_total
    assert [item.name for item in folder.iterdir()] == ["archive"], "something was unpacked"


PACKED = RunConfig.model_validate(
    {
        "run": "packed",
        "dataset": {"name": "glyphs"},
        "stage1": {"networks": {"a": {"backbone": {"name": "c128f"}}}},
        "evaluation": {"shots": [1], "tests": [{"networks": ["a"]}]},
    }
)


def _packed() -> list[bytes]:
    """What `fewshot pack` writes, without any files and with such as are not what they should be: none is ever taken."""
    plan, found = Plan(PACKED), []
    config = {transfer.CONFIG: json.dumps(PACKED.as_dict()).encode()}
    more = {
        str(plan.network_dir(plan.networks[0]) / "model.json"): b"{}",
        str(plan.evaluation_dir(plan.evaluations[0]) / "settings.json"): b"{}",
    }
    for files in (config, config | more):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as file:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        found += [packed.getvalue(), gzip.compress(packed.getvalue(), mtime=0)]
    return found


def _read_packed(data: bytes, folder: Path) -> None:
    archive = folder / "archive"
    archive.write_bytes(data)
    store = folder / "home" / Plan(PACKED).store_dir / "meta.json"
    store.parent.mkdir(parents=True)
    store.write_text('{"data_hash": "d"}')
    try:
        transfer.take([archive], folder / "home")
    finally:
        left = [path for path in folder.rglob("*") if path.is_file() and path not in (archive, store)]
        assert left == [], "something was taken"


def _pickles() -> list[bytes]:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    values = ({b"data": array, b"labels": [1, 2]}, {"a": OrderedDict(c=1), "b": (b"x", None, 2.5)}, [array.astype(">f4"), "ä"])
    return [pickle.dumps(value, protocol) for value in values for protocol in (0, 2, 4, 5)]


def _read_pickle(data: bytes, folder: Path) -> None:
    _only_data(load_restricted(io.BytesIO(data), "file"), 200)


def _only_data(value: object, left: int) -> None:
    """Nothing but plain values came out, looked at to some depth."""
    plain = (
        dict,
        list,
        tuple,
        set,
        frozenset,
        str,
        bytes,
        bytearray,
        int,
        float,
        complex,
        bool,
        type(None),
        np.ndarray,
        np.dtype,
    )
    assert isinstance(value, plain) or callable(value), type(value)
    if left and isinstance(value, list | tuple):
        for item in value[:5]:
            _only_data(item, left // 5)


# --- settings, splits ---------------------------------------------------------------------------------------------------


def _configs() -> list[bytes]:
    files = [ROOT / "tests/integration/tiny.yaml", ROOT / "config/runs/fc100_cpu_probe.yaml"]  # PyYAML takes its time for more
    small = b"run: a\ndataset: {name: glyphs}\nstage1: {networks: {b: {backbone: {name: c128f}}}}\n"
    bomb = b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
        b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 105)
    )
    return [small, *(file.read_bytes() for file in files), bomb, b"[" * 500]


def _read_config(data: bytes, folder: Path) -> None:
    (folder / "run.yaml").write_bytes(data)
    load(folder / "run.yaml")


def _read_split(data: bytes, folder: Path) -> None:
    (folder / "split.csv").write_bytes(data)
    read_split(folder / "split.csv", ["a", "b", "c"])


# --- pictures --------------------------------------------------------------------------------------------------------


def _pictures() -> list[bytes]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8))
    found = []
    for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        stream = io.BytesIO()
        picture.save(stream, kind)
        found.append(stream.getvalue())
    return found


def _decode(payload: bytes) -> np.ndarray:
    return decode_image(payload, 16, upright=True)


def _read_picture(data: bytes, folder: Path) -> None:
    (folder / "decoded").touch()
    _refuse(_decode_batch(_decode, [("file", data)], 16, str(folder / "decoded"), 0)[1])
    assert (folder / "decoded").stat().st_size == 16 * 16 * 3


TARGETS = {
    "archives": Target(_archives, _read_archive),
    "packed": Target(_packed, _read_packed),
    "unpickler": Target(_pickles, _read_pickle),
    "config": Target(_configs, _read_config),
    "split": Target(lambda: [b"class,part\na,base\nb,val\nc,test\n", "\ufeff# x\nclass, part\n".encode()], _read_split),
    "pictures": Target(_pictures, _read_picture),
}
