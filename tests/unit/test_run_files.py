"""Every run file at its full length: its data set has the classes and images that its tasks ask for.

That its jobs work, on drawn images and shortened, is tested in tests/integration/test_runs.py.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from fewshot import requirements
from fewshot.config import CubSettings, DatasetSettings, FolderSettings, GlyphsSettings, OmniglotSettings, load
from fewshot.data.held_out import divided, held_out_rows
from fewshot.data.sources import glyphs
from fewshot.data.splits import Split, drawn, published_split
from fewshot.data.store import Store
from fewshot.data.trained_images import trained_on
from fewshot.errors import DataError
from fewshot.plan import Plan
from fewshot.sampling import build_sampling
from fewshot.validation import build_validation

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "config" / "config.yaml", *sorted((ROOT / "config" / "runs").glob("*.yaml"))]
IMAGES = {"fc100": 600, "cifar_fs": 600, "miniimagenet": 600, "omniglot": 20, "cub": 41, "folder": 20}
"""Of each class, of CUB's smallest class, and of each class of one's own as folder.yaml wants them."""
OWN_CLASSES = 25
"""That folder.yaml wants."""


def split_of(dataset: DatasetSettings) -> Split:
    match dataset:
        case GlyphsSettings():
            return glyphs.source(dataset).classes
        case CubSettings():
            return published_split(f"cub_{dataset.split}")
        case OmniglotSettings():
            turns = 4 if dataset.rotations else 1
            return tuple((f"{name} {turn}", part) for name, part in published_split("omniglot") for turn in range(turns))
        case FolderSettings(base_at_least=None):
            return drawn([f"class {i}" for i in range(OWN_CLASSES)], dataset.shares, dataset.seed)
        case FolderSettings():
            return tuple((f"class {i}", "base" if i < 10 else "test") for i in range(20))
        case _:
            return published_split(dataset.name)


def store_of(dataset: DatasetSettings) -> Store:
    """The data set whole, its images of one pixel."""
    split = split_of(dataset)
    images = dataset.images_per_class if isinstance(dataset, GlyphsSettings) else IMAGES[dataset.name]
    labels = np.repeat(np.arange(len(split)), images)
    held_out = np.zeros((len(split), images), dtype=bool)
    for label, (name, part) in enumerate(split):
        if part == "base":
            held_out[label, held_out_rows(name, images, dataset.held_out, dataset.seed)] = True
    classes = pd.DataFrame(split, columns=["name", "part"]).assign(images=images, label=range(len(split)))
    meta = {"settings": {"held_out": dataset.held_out, "seed": dataset.seed}, "image_size": 1}
    pixels = np.zeros((len(labels), 1, 1, 3), dtype=np.uint8)
    return Store(Path("store"), pixels, labels, held_out.ravel(), classes, meta)


def check(plan: Plan, store: Store) -> None:
    """Everything that a run asks of its images, by the code that asks for it.

    Raises:
        DataError: there are too few classes, or too few images of a class.
    """
    config = plan.config
    requirements.require(store, plan)
    if config.evaluation.way == "all":
        assert all(len(test) for _, test in divided(store, config.evaluation.part))
    for job in plan.networks:
        training = job.settings.training
        rows, names = trained_on(store, training)
        sampling = build_sampling(training, torch.from_numpy(rows), torch.from_numpy(store.labels[rows]), job.seed)
        assert len(sampling(0)) == sampling.batch_size <= len(rows)
        assert len(names) > 1
        if training.validation.every:
            build_validation(store, training, job.seed)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_run_file_asks_for_no_more_than_its_data_set_has(file):
    config = load(file)
    check(Plan(config), store_of(config.dataset))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("002_table1_omniglot", {"evaluation": {"queries": 16}}, "too few images in .*, 20; "),
        ("cub", {"evaluation": {"queries": 32}}, "too few images in .*, 41; "),
        ("fc100", {"evaluation": {"way": 21}}, "20 classes in part test"),
        ("folder", {"evaluation": {"way": 6}}, "5 classes in part test"),
        ("miniimagenet", {"stage1": {"training": {"validation": {"way": 17}}}}, "16 classes in part val"),
        ("002_table1_miniimagenet", {"stage1": {"training": {"objective": {"way": 65}}}}, "only 64 classes"),
    ],
)
def test_what_is_too_much_is_noticed(tmp_path, name, change, words):
    file = tmp_path / "more.yaml"
    file.write_text(f"extends: {ROOT / 'config' / 'runs' / name}.yaml\nrun: more\n{yaml.safe_dump(change)}")
    config = load(file)
    with pytest.raises(DataError, match=words):
        check(Plan(config), store_of(config.dataset))
