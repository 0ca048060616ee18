"""What reads files from elsewhere, each as a function of bytes that either works or refuses in one line.

`TARGETS` serves the seeded tests (tests/unit/test_fuzz.py) and the coverage-guided campaign (tests/fuzz/campaign.py, which
`make fuzz` runs).
"""

import gzip
import io
import json
import pickle
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fewshot import episodes
from fewshot.checkpoint import load_network, save_network
from fewshot.config import NetworkSettings, load
from fewshot.data.archives import MEBIBYTE, Archive, Known, members
from fewshot.data.decoding import _decode_batch
from fewshot.data.pictures import decode_image
from fewshot.data.splits import read_split
from fewshot.data.store import TABLES, open_store, write_store
from fewshot.data.unpickle import load_restricted
from fewshot.errors import FewshotError
from fewshot.files import read_record, write_record
from fewshot.models.network import Network
from fewshot.plan import EpisodeJob, EvaluatedSetting
from fewshot.records import curve
from fewshot.report.results import _read_tasks, read_lines
from fewshot.task_results import save_accuracies

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """A reader: `seeds()` gives inputs that it takes, `read(data, folder)` reads one in a folder of its own."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], None]


@cache
def _place() -> Path:
    return Path(tempfile.mkdtemp(prefix="fewshot-fuzz-"))


@contextmanager
def _folder() -> Iterator[Path]:
    """An empty folder, used again and again."""
    folder = _place() / "inside"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder


def check(target: Target, data: bytes) -> bool:
    """Read one input; True where it is taken. Anything but one clear line, and anything written elsewhere, is an error."""
    with _folder() as folder:
        try:
            target.read(data, folder)
            taken = True
            said = ""
        except FewshotError as error:
            taken, said = False, str(error)
        assert "\n" not in said, "more than one line"
        assert len(said) < 2000, "a line too long to read"
        assert {path.name for path in folder.parent.iterdir()} == {"inside"}, "something was written outside"
    return taken


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


def _pickles() -> list[bytes]:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    values = ({b"data": array, b"labels": [1, 2]}, {"a": {1, 2}, "b": (b"x", None, 2.5)}, [array.astype(">f4"), "ä"])
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
    bomb = b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(
        b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 9)) for i in range(97, 105)
    )
    return [*(file.read_bytes() for file in files), bomb, b"[" * 3000]


def _read_config(data: bytes, folder: Path) -> None:
    (folder / "run.yaml").write_bytes(data)
    load(folder / "run.yaml")


def _read_split(data: bytes, folder: Path) -> None:
    (folder / "split.csv").write_bytes(data)
    read_split(folder / "split.csv", ["a", "b", "c"])


# --- what jobs leave to each other: records are sealed anew, as an attacker would -----------------------------------------


@cache
def _store() -> dict[str, bytes]:
    folder = _place().parent / f"{_place().name}-store"
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    write_store(
        folder,
        dataset="x",
        settings={},
        classes=[("a", "base"), ("b", "val"), ("c", "test"), ("d", "test")],
        labels=np.repeat(range(4), 15),
        held_out=[False] * 60,
        files=[f"{i}.png" for i in range(60)],
        images=images,
        image_size=8,
    )
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return found


STORE_FILES = ("images.npy", *TABLES, "meta.json")


def _read_store(data: bytes, folder: Path) -> None:
    """The first byte chooses the file that is replaced."""
    for name, content in _store().items():
        (folder / name).write_bytes(content)
    name = STORE_FILES[(data[0] if data else 0) % len(STORE_FILES)]
    (folder / name).write_bytes(data[1:])
    if name != "meta.json":
        meta = json.loads(_store()["meta.json"])
        write_record(
            folder / "meta.json", {key: meta[key] for key in meta if key not in ("files", "seal")}, (*TABLES, "images.npy")
        )
    store = open_store(folder)
    for part in ("base", "held_out", "val", "test"):
        np.array(store.images[store.rows(part)])


def _episodes() -> list[bytes]:
    with _folder() as folder:
        for name, content in _store().items():
            (folder / name).write_bytes(content)
        job = EpisodeJob(2, 1, 3, 4, "test", 0)
        episodes.save(episodes.draw(open_store(folder), job), folder / "e.npz")
        bomb = io.BytesIO()
        np.savez_compressed(bomb, support=np.zeros(1 << 24, np.int32), query=np.zeros(1), base=np.zeros(1), meta=np.zeros(1))
        return [(folder / "e.npz").read_bytes(), bomb.getvalue()]


def _read_episodes(data: bytes, folder: Path) -> None:
    (folder / "e.npz").write_bytes(data)
    episodes.load(folder / "e.npz")


SETTING = EvaluatedSetting(1, 4, "gap", "gap", ("novel", "both"))


def _results() -> list[bytes]:
    with _folder() as folder:
        save_accuracies(folder / "t.parquet", {"novel": np.array([1.0, 2, 3, 4]), "both": np.array([5.0, 6, 7, 8])})
        return [(folder / "t.parquet").read_bytes()]


def _read_results(data: bytes, folder: Path) -> None:
    (folder / "t.parquet").write_bytes(data)
    _read_tasks(folder / "t.parquet", SETTING)


def _records() -> list[bytes]:
    with _folder() as folder:
        (folder / "a").write_text("a")
        write_record(folder / "r.json", {"x": {"y": [1, 2.5, None]}}, ["a"])
        return [(folder / "r.json").read_bytes(), b'{"seal": "x", "files": 3}', b'{"a":' * 3000, b'{"a": ' + b"9" * 5000 + b"}"]


def _read_record(data: bytes, folder: Path) -> None:
    (folder / "a").write_text("a")
    (folder / "r.json").write_bytes(data)
    read_record(folder / "r.json", ["a"])


def _read_metrics(data: bytes, folder: Path) -> None:
    (folder / "metrics.jsonl").write_bytes(data)
    list(curve(folder / "metrics.jsonl", "iteration"))
    read_lines(folder / "metrics.jsonl")


@cache
def _network() -> tuple[bytes, dict]:
    with _folder() as folder:
        torch.manual_seed(0)
        settings = NetworkSettings.model_validate({"backbone": {"name": "c128f", "widths": [2, 2, 2, 2]}})
        save_network(Network(settings, 2, 32), folder, {"classes": ["a", "b"], "image_size": 32})
        return (folder / "model.safetensors").read_bytes(), json.loads((folder / "model.json").read_text())


def _read_network(data: bytes, folder: Path) -> None:
    info = _network()[1]  # the first time it empties the folder
    (folder / "model.safetensors").write_bytes(data)
    write_record(folder / "model.json", {key: info[key] for key in info if key not in ("files", "seal")}, ["model.safetensors"])
    load_network(folder)


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
    _decode_batch(_decode, [("file", data)], 16, str(folder / "decoded"), 0)
    assert (folder / "decoded").stat().st_size == 16 * 16 * 3


TARGETS = {
    "archives": Target(_archives, _read_archive),
    "unpickler": Target(_pickles, _read_pickle),
    "config": Target(_configs, _read_config),
    "split": Target(lambda: [b"class,part\na,base\nb,val\nc,test\n", "﻿# x\nclass, part\n".encode()], _read_split),
    "store": Target(lambda: [bytes([i]) + _store()[name] for i, name in enumerate(STORE_FILES)], _read_store),
    "episodes": Target(_episodes, _read_episodes),
    "results": Target(_results, _read_results),
    "records": Target(_records, _read_record),
    "metrics": Target(lambda: [b'{"iteration": 1, "loss": 2.5}\n{"iteration": 2, "loss": 1e3}\n'], _read_metrics),
    "network": Target(lambda: [_network()[0]], _read_network),
    "pictures": Target(_pictures, _read_picture),
}
