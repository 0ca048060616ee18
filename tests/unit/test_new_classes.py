import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fewshot import base_training
from fewshot.checkpoint import load_network
from fewshot.config import parse
from fewshot.errors import ConfigError, DataError
from fewshot.new_classes import add_classes
from fewshot.plan import Plan


@pytest.fixture(scope="module")
def models(tiny_config, tiny_store, tmp_path_factory):
    """A pooled and a dense network, trained a little."""
    folder, data = tmp_path_factory.mktemp("models"), tiny_config.as_dict()
    data["stage1"]["training"]["iterations"] = 2
    for network in data["stage1"]["networks"].values():
        network["training"] |= {"iterations": 2, "validation": {"every": 0, "keep": "last"}}
    plan = Plan(parse(data))
    for job in plan.networks:
        base_training.train(tiny_store, job, folder / job.name, torch.device("cpu"))
    return folder


@pytest.fixture
def images(tmp_path, tiny_store):
    """Two new classes, of three images and of one."""
    rows = tiny_store.rows("test")
    for name, count in (("owl", 3), ("wren", 1)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(tiny_store.images[rows[i]]).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


def test_the_new_network_knows_both_and_says_of_the_old_what_it_said(models, images, tiny_store, tmp_path):
    out = tmp_path / "out"
    assert add_classes(models / "c128f-gap", images, out) == ["owl", "wren"]
    (before, old), (after, new) = load_network(models / "c128f-gap"), load_network(out)
    assert new["classes"] == [*old["classes"], "owl", "wren"]
    assert new["imprinted"] == [{"class": "owl", "images": 3}, {"class": "wren", "images": 1}]
    assert new["imprinted_on"] == old["sha256"]
    assert new["probe"] == old["probe"]  # of the code that trained it, whatever code imprints
    pictures = torch.from_numpy(np.array(tiny_store.images[tiny_store.rows("test")[:4]]))
    with torch.no_grad():
        maps = before(before.normalise(pictures))
        logits = after.logits(after.normalise(pictures))[:, 0]
    assert torch.equal(logits[:, : len(old["classes"])], before.classify(maps)[:, 0])
    phi = F.normalize(maps.mean((2, 3)), dim=1)
    torch.testing.assert_close(F.normalize(after.classifier.weight, dim=1)[-1], phi[0], atol=2e-3, rtol=0)
    assert len(new["classes"]) == logits.shape[1]
    again = add_classes(out, _renamed(images), tmp_path / "twice")
    assert again == ["owl2", "wren2"]
    assert len(load_network(tmp_path / "twice")[1]["imprinted"]) == 4


def test_images_beside_the_class_folders_are_told(models, images, tmp_path, caplog):
    (images / "loose.png").write_bytes((images / "owl" / "0.png").read_bytes())
    (images / ".hidden").touch()
    assert add_classes(models / "c128f-gap", images, tmp_path / "out") == ["owl", "wren"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{images}: not in a class folder, so left out: loose.png"
    ]


def _renamed(images):
    for path in list(images.iterdir()):
        path.rename(images / f"{path.name}2")
    return images


def test_what_is_refused_leaves_nothing_behind(models, images, tmp_path):
    model, out = models / "c128f-gap", tmp_path / "out"
    with pytest.raises(ConfigError, match=r"dense features.*kind: cosine and pooling: gap or gmp"):
        add_classes(models / "resnet12-dense", images, out)
    name = json.loads((model / "model.json").read_text())["classes"][0]
    (images / "owl").rename(images / name)
    with pytest.raises(DataError, match=f"has a class '{name}' already; rename the folder"):
        add_classes(model, images, out)
    (images / name).rename(images / "owl")
    (images / "owl" / "broken.png").write_text("no image")
    with pytest.raises(DataError, match=r"broken\.png: the image does not decode"):
        add_classes(model, images, out)
    (images / "owl" / "broken.png").unlink()
    (images / "empty").mkdir()
    with pytest.raises(DataError, match="empty: class folder without images"):
        add_classes(model, images, out)
    with pytest.raises(DataError, match="no such folder; --images"):
        add_classes(model, tmp_path / "nothing", out)
    with pytest.raises(DataError, match="no sub-folders"):
        add_classes(model, images / "owl", out)
    with pytest.raises(DataError, match=r"model\.json"):
        add_classes(tmp_path, images, out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(DataError, match="is there already; name another folder with --out"):
        add_classes(model, images, out)


def test_an_archive_is_taken_as_its_network(models, images, tmp_path):
    from typer.testing import CliRunner

    from fewshot.cli import app

    packed = tmp_path / "packed" / "network-c128f-gap-seed0.tar.gz"
    packed.parent.mkdir()
    with tarfile.open(packed, "w:gz") as file:
        for path in (models / "c128f-gap").iterdir():
            file.add(path, f"resources/store/networks/c128f-gap-0/seed0/{path.name}")
    add_classes(models / "c128f-gap", images, tmp_path / "of-folder")
    arguments = ["imprint", "--model", str(packed), "--images", str(images), "--threads", "1"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    (said,) = [path for path in packed.parent.iterdir() if path.is_dir()]
    assert said.name == "network-c128f-gap-seed0-imprinted"
    assert (said / "model.safetensors").read_bytes() == (tmp_path / "of-folder" / "model.safetensors").read_bytes()


def test_a_model_that_is_not_there_is_said_to_be_missing(images, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.tar\.gz: no such model; name a network's folder, .* or an archive"):
        add_classes(tmp_path / "nothing.tar.gz", images, tmp_path / "out")


def test_the_command(models, images, tmp_path, capfd):
    from typer.testing import CliRunner

    from fewshot.cli import app

    arguments = ["imprint", "--model", str(models / "c128f-gap"), "--images", str(images), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert "2 new classes: owl, wren" in done.output
    assert (tmp_path / "out" / "model.json").exists()
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "is there already" in done.output + capfd.readouterr().err
