"""Readers of what jobs leave to each other. Records are sealed anew after the damage, as an attacker would."""

import io
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import torch

from fewshot import accuracies, episodes
from fewshot.checkpoint import load_network, save_network
from fewshot.config import NetworkSettings
from fewshot.data.store import TABLES, open_store, write_store
from fewshot.files import read_record, write_record
from fewshot.models.network import Network
from fewshot.plan import EpisodeJob, EvaluatedSetting
from fewshot.records import curve
from fewshot.report.results import _read_tasks, read_lines
from tests.fuzz.target import Target, empty_folder, place


@cache
def _store() -> dict[str, bytes]:
    folder = place().parent / f"{place().name}-store"
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
    with empty_folder() as folder:
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
    with empty_folder() as folder:
        accuracies.save(folder / "t.parquet", {"novel": np.array([1.0, 2, 3, 4]), "both": np.array([5.0, 6, 7, 8])})
        return [(folder / "t.parquet").read_bytes()]


def _read_results(data: bytes, folder: Path) -> None:
    (folder / "t.parquet").write_bytes(data)
    _read_tasks(folder / "t.parquet", SETTING)


def _records() -> list[bytes]:
    with empty_folder() as folder:
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
    with empty_folder() as folder:
        torch.manual_seed(0)
        settings = NetworkSettings.model_validate({"backbone": {"name": "c128f", "widths": [2, 2, 2, 2]}})
        save_network(Network(settings, 2, 32), folder, {"classes": ["a", "b"], "image_size": 32})
        return (folder / "model.safetensors").read_bytes(), json.loads((folder / "model.json").read_text())


def _read_network(data: bytes, folder: Path) -> None:
    info = _network()[1]  # the first time it empties the folder
    (folder / "model.safetensors").write_bytes(data)
    write_record(folder / "model.json", {key: info[key] for key in info if key not in ("files", "seal")}, ["model.safetensors"])
    load_network(folder)


TARGETS = {
    "store": Target(lambda: [bytes([i]) + _store()[name] for i, name in enumerate(STORE_FILES)], _read_store),
    "episodes": Target(_episodes, _read_episodes),
    "results": Target(_results, _read_results),
    "records": Target(_records, _read_record),
    "metrics": Target(lambda: [b'{"iteration": 1, "loss": 2.5}\n{"iteration": 2, "loss": 1e3}\n'], _read_metrics),
    "network": Target(lambda: [_network()[0]], _read_network),
}
