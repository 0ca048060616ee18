"""One's own images: the same accuracies as the evaluation's, and what lies between the images."""

import re
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fewshot import features
from fewshot.checkpoint import load_network, save_network
from fewshot.classification import classify
from fewshot.cli import app
from fewshot.config import ImplantingSettings
from fewshot.data.store import open_store
from fewshot.episodes import Episodes
from fewshot.errors import ConfigError, DataError
from fewshot.evaluation import Evaluator
from fewshot.models.network import Network
from fewshot.report.answer_page import write_answer

WAY, SHOT, QUERIES = 3, 4, 6


@pytest.fixture(params=["c128f-gap", "resnet12-dense"])
def model(request, tmp_path, tiny_config, tiny_store):
    return write_model(tmp_path / "model", tiny_config.stage1.networks[request.param], tiny_store)


@pytest.fixture
def dense(tmp_path, tiny_config, tiny_store):
    return write_model(tmp_path / "model", tiny_config.stage1.networks["resnet12-dense"], tiny_store)


def write_model(folder, settings, store):
    torch.manual_seed(0)
    network = Network(settings, store.num_base, store.image_size, store.mean, store.std).eval()
    for module in network.modules():  # statistics of a trained network, so that features differ from image to image
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.fill_(0.5)
    info = {"classes": [str(i) for i in range(store.num_base)], "image_size": store.image_size, "data_hash": store.data_hash}
    told = {"name": "birds", "seed": 3, "store": "my-images-32px-0123456789", "training_images": 1200}
    save_network(network, folder, info | told)
    return folder


@pytest.fixture
def task(tmp_path, tiny_store):
    """A task as folders of files, and as rows of the store."""
    rows = tiny_store.rows("test")
    labels = tiny_store.labels[rows]
    chosen = np.stack([rows[labels == label][: SHOT + QUERIES] for label in np.unique(labels)[:WAY]])
    for number, images in enumerate(chosen):
        for i, row in enumerate(images):
            kind = f"support/class{number}" if i < SHOT else f"query/class{number}"
            folder = tmp_path / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(tiny_store.images[row])).save(folder / f"{i:02}.png")
    return tmp_path / "support", tmp_path / "query", chosen


def test_the_predictions_are_those_of_the_evaluation(model, task, tiny_store):
    support, query, rows = task
    answer = classify(model, support, query, device="cpu")
    truth = np.array([int(name[5]) for name in answer.table["file"]])
    network, _ = load_network(model)
    used = np.sort(rows.ravel())
    values = features.compute(network, open_store(tiny_store.path).images[used], progress=False).numpy()
    episodes = Episodes(rows[None, :, :SHOT], rows[None, :, SHOT:], np.empty((1, 0), np.int64), {"hash": ""})
    poolings = ("gap", "dense" if network.settings.classifier.pooling == "dense" else "gap")
    table = features.Features(values, used, {})
    expected = Evaluator(table, torch.device("cpu")).accuracies(episodes, *poolings, network.scale)["novel"]
    assert 100 * (answer.probabilities.argmax(1) == truth).mean() == pytest.approx(expected[0])
    assert answer.probabilities.sum(1) == pytest.approx(np.ones(WAY * QUERIES), abs=1e-5)
    assert answer.table.columns.tolist() == [
        "file", "prediction", "probability", "nearest", "P(class0)", "P(class1)", "P(class2)"
    ]  # fmt: skip
    assert answer.maps.shape[0] == WAY * QUERIES


def test_a_map_of_a_dense_network_is_the_probability_by_location(dense, task):
    answer = classify(dense, *task[:2], device="cpu")
    assert answer.maps.mean((1, 2)) == pytest.approx(answer.probabilities.max(1), abs=1e-5)


def test_a_support_image_is_its_own_nearest(dense, task):
    support, _, _ = task
    answer = classify(dense, support, support, device="cpu")
    assert answer.table["nearest"].tolist() == answer.table["file"].tolist()


def test_implants_on_classes_of_different_sizes(dense, task):
    support, query, _ = task
    (support / "class1" / "03.png").unlink()
    settings = ImplantingSettings(method="implanting", width=16, epochs=20, lr=0.05)
    plain, implanted = (classify(dense, support, query, implant=how, device="cpu") for how in (None, settings))
    assert implanted.probabilities.shape == plain.probabilities.shape
    assert not np.allclose(implanted.probabilities, plain.probabilities)
    without = classify(dense, support, query, implant=settings.model_copy(update={"width": 0}), device="cpu")
    assert without.probabilities == pytest.approx(plain.probabilities, abs=1e-3), "the stream is kept in half precision"
    for path in sorted((support / "class1").iterdir())[1:]:
        path.unlink()
    with pytest.raises(ConfigError, match="--implant needs two support images a class"):
        classify(dense, support, query, implant=settings, device="cpu")


def test_images_of_every_mode_and_size_and_files_that_are_none(dense, task):
    support, query, _ = task
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "1", "I", "F"):
        picture.convert("L").convert(mode).save(query / f"mode-{mode}.{'tif' if mode in 'CMYKIF' else 'png'}")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(query / "turned.jpg", exif=exif)
    (query / "notes.txt").write_text("no image")
    (query / "cut.png").write_bytes((query / "mode-L.png").read_bytes()[:100])
    (query / ".hidden.png").write_text("not looked at")
    answer = classify(dense, support, query, device="cpu")
    assert len(answer.queries) == WAY * QUERIES + 9
    assert [re.sub(".*/", "", name) for name, _ in answer.skipped] == ["cut.png", "notes.txt"]
    with pytest.raises(DataError, match=r"cut\.png: not an image .*; remove it, or leave --strict out"):
        classify(dense, support, query, strict=True, device="cpu")


def forms(picture: Image.Image) -> dict[str, tuple[Image.Image, Image.Image, str, dict[str, object]]]:
    """Name -> a picture as it may come, the RGB picture that it shows, its format, how it is saved."""
    grey, few = picture.convert("L"), picture.quantize(64)
    second = Image.new("RGB", picture.size, "lime")
    shown = {
        "grey": (grey, grey, "PNG", {}),
        "one bit": (picture.convert("1"), picture.convert("1"), "PNG", {}),
        "grey and alpha": (grey.convert("LA"), grey, "PNG", {}),
        "alpha": (picture.convert("RGBA"), picture, "PNG", {}),
        "palette": (few, few, "PNG", {}),
        "palette with a transparent colour": (few, few, "PNG", {"transparency": 200}),
        "cmyk": (picture.convert("CMYK"), picture.convert("CMYK"), "TIFF", {}),
        "16 bits": (Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), grey, "PNG", {}),
        "floats": (Image.fromarray(np.asarray(grey).astype(np.float32) / 255), grey, "TIFF", {}),
        "animated": (picture, picture, "PNG", {"save_all": True, "append_images": [second]}),
        "animated gif": (few, few, "GIF", {"save_all": True, "append_images": [second]}),
        "several pages": (picture, picture, "TIFF", {"save_all": True, "append_images": [second]}),
    }
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # mark -> the transposition that it undoes
    for mark, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = mark
        shown[f"turned, mark {mark}"] = (picture.transpose(turn), picture, "PNG", {"exif": exif})
    return {name: (came, plain.convert("RGB"), kind, how) for name, (came, plain, kind, how) in shown.items()}


def test_a_query_in_any_form_is_judged_as_the_picture_that_it_shows(dense, task, tmp_path):
    """Turned by the camera's mark, grey, with alpha, of a palette, CMYK, 16-bit, animated: as the upright RGB picture."""
    support, _, _ = task
    rng = np.random.default_rng(0)
    spots = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((64, 48), Image.Resampling.NEAREST)
    for folder in ("came", "plain"):
        (tmp_path / folder).mkdir()
    names = list(forms(spots))
    for number, (came, plain, kind, how) in enumerate(forms(spots).values()):
        came.save(tmp_path / "came" / f"{number:02}.{kind.lower()}", kind, **how)
        plain.save(tmp_path / "plain" / f"{number:02}.png")
    came, plain = (classify(dense, support, tmp_path / folder, strict=True, device="cpu") for folder in ("came", "plain"))
    assert came.table["prediction"].tolist() == plain.table["prediction"].tolist()
    for name, found, expected in zip(names, came.probabilities, plain.probabilities, strict=True):
        assert found == pytest.approx(expected, abs=2e-3), name
    assert len({tuple(row) for row in plain.probabilities.round(2)}) == 3, "colours, greys and black and white differ"
    unmarked = spots.transpose(Image.Transpose.ROTATE_90)
    unmarked.save(tmp_path / "plain" / "99.png")
    last = classify(dense, support, tmp_path / "plain", device="cpu").probabilities[-1]
    assert np.abs(last - plain.probabilities[-1]).max() > 0.01, "a turn without a mark is seen"


def bomb(path: Path) -> None:
    """A small PNG whose head promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_listed_and_skipped_or_refused(dense, task, tmp_path):
    support, query, _ = task
    for folder in (query, support / "class0"):
        bomb(folder / "bomb.png")
    options = [f"--{name}={tmp_path / name}" for name in ("model", "support", "query", "out")]
    done = CliRunner().invoke(app, ["classify", *options, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    assert [line.split(" (")[0] for line in done.stderr.splitlines()] == [
        f"skipped: {folder / 'bomb.png'}" for folder in (support / "class0", query)
    ]
    assert done.stderr.count("3600000000 pixels") == 2
    done = CliRunner().invoke(app, ["classify", *options, "--device", "cpu", "--strict"])
    assert done.exit_code == 1
    assert re.fullmatch(
        r"error: \S+class0/bomb\.png: not an image \(.*\); remove it, or leave --strict out to skip it\n", done.stderr
    )


def test_the_archive_of_a_network_is_a_model(dense, task, tmp_path):
    archive = tmp_path / "network-resnet12-dense-seed0.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name in ("model.safetensors", "model.json"):
            file.add(dense / name, f"resources/glyphs/networks/resnet12-dense/seed0/{name}")
    found, expected = (classify(one, *task[:2], device="cpu") for one in (archive, dense))
    assert found.probabilities == pytest.approx(expected.probabilities)
    with tarfile.open(tmp_path / "results.tar.gz", "w:gz"):
        pass
    with pytest.raises(DataError, match="holds no network"):
        classify(tmp_path / "results.tar.gz", *task[:2])
    (tmp_path / "no.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"not a whole archive .*; get the archive of `fewshot pack` again"):
        classify(tmp_path / "no.tar.gz", *task[:2])


def _a_picture_in_place_of_the_queries(root):
    next((root / "query").rglob("*.png")).rename(root / "one.png")
    shutil.rmtree(root / "query")
    (root / "one.png").rename(root / "query")


def _one_level_down(root):
    """`--support` then names the folder above that of the classes."""
    (root / "support").rename(root / "classes")
    (root / "support" / "new").mkdir(parents=True)
    (root / "classes").rename(root / "support" / "known")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda root: (root / "support").rename(root / "moved"), r"support: no such folder; name a folder that holds"),
        (lambda root: [shutil.rmtree(p) for p in sorted((root / "support").iterdir())[1:]], r"support: 1 sub-folder; it must"),
        (lambda root: [shutil.rmtree(p) for p in (root / "support").iterdir()], r"support: no sub-folders; it must"),
        (lambda root: [p.unlink() for p in (root / "support/class1").iterdir()], r"class1: no files in this folder"),
        (
            _one_level_down,
            r"support/known/class0: a folder inside a class folder; name the folder that holds the classes",
        ),
        (
            lambda root: [p.write_text("no image") for p in (root / "support/class1").iterdir()],
            r"class1: no image in this class folder \(\S+: [^)]+\); add one or remove the folder",
        ),
        (
            lambda root: [p.write_text("no image") for p in (root / "query").rglob("*.png")],
            r"query: no image among its files \(\S+: [^)]+\); name a folder of images to classify",
        ),
        (lambda root: (root / "query").rename(root / "moved"), r"query: no such folder; name the folder that holds the im"),
        (_a_picture_in_place_of_the_queries, r"query: is a file; name the folder that holds the images$"),
        (lambda root: (root / "model/model.safetensors").write_bytes(b"0"), r"model\.safetensors: damaged"),
        (lambda root: (root / "model").rename(root / "moved"), r"model: no such model; name a network's folder"),
        (lambda root: [p.unlink() for p in (root / "model").iterdir()], r"model: holds no network .*; name a network's folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(dense, task, tmp_path, change, line):
    change(tmp_path)
    options = [f"--{name}={tmp_path / name}" for name in ("model", "support", "query", "out")]
    done = CliRunner().invoke(app, ["classify", *options, "--device", "cpu"])
    assert done.exit_code == 1
    assert re.search(line, done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_implants_of_one_image_a_class_are_refused_in_one_line(dense, task, tmp_path):
    for path in sorted((task[0] / "class1").iterdir())[1:]:
        path.unlink()
    options = [f"--{name}={tmp_path / name}" for name in ("model", "support", "query", "out")]
    done = CliRunner().invoke(app, ["classify", *options, "--device", "cpu", "--implant"])
    assert done.exit_code == 1
    assert (
        done.stderr
        == "error: --implant needs two support images a class at least; class1 has one: add images, or leave it out\n"
    )
    assert CliRunner().invoke(app, ["classify", *options, "--device", "cpu"]).exit_code == 0


def test_implants_want_a_resnet12(task, tmp_path, tiny_config, tiny_store):
    model = write_model(tmp_path / "model", tiny_config.stage1.networks["c128f-gap"], tiny_store)
    settings = ImplantingSettings(method="implanting", width=2, epochs=1)
    with pytest.raises(ConfigError, match="last block of resnet12; this network is a c128f"):
        classify(model, *task[:2], implant=settings, device="cpu")


def test_the_command_writes_a_table_and_a_page(dense, task, tmp_path):
    (task[1] / "notes.txt").write_text("no image")
    options = [f"--{name}={tmp_path / name}" for name in ("model", "support", "query", "out")]
    done = CliRunner().invoke(app, ["classify", *options, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "skipped: " in done.stderr
    table = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert len(table) == 1 + WAY * QUERIES
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<article>") == WAY * QUERIES
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "1 file skipped<" in page
    assert sum(int(number) for number in re.findall(r"class\d <b>(\d+)</b>", page)) == WAY * QUERIES


def test_the_page_names_the_network_its_data_and_the_scale(model, task, tmp_path, tiny_store):
    write_answer(classify(model, *task[:2], device="cpu"), tmp_path / "own")
    write_answer(classify(model, *task[:2], scale=7.5, device="cpu"), tmp_path / "given")
    own, given = ((tmp_path / name / "index.html").read_text() for name in ("own", "given"))
    network = f"Network: birds, seed 3, trained on my-images-32px: 1,200 images of {tiny_store.num_base} classes."
    assert network in own
    assert network in given
    assert f"cosines times a scale of {load_network(model)[0].scale:.1f}." in own
    assert "cosines times a scale of 7.5." in given


def test_an_image_beside_the_class_folders_is_told_or_refused(dense, task, tmp_path):
    support, query, _ = task
    expected = classify(dense, support, query, device="cpu")
    shutil.copy(support / "class0" / "00.png", support / "stray.png")
    (support / "Thumbs.db").write_text("of a desktop")
    answer = classify(dense, support, query, device="cpu")
    assert answer.skipped == [((support / "stray.png").as_posix(), "not in a class folder")]
    assert answer.probabilities == pytest.approx(expected.probabilities)
    options = [f"--{name}={tmp_path / name}" for name in ("model", "support", "query", "out")]
    done = CliRunner().invoke(app, ["classify", *options, "--device", "cpu"], catch_exceptions=False)
    assert done.stderr == f"skipped: {support / 'stray.png'} (not in a class folder)\n"
    done = CliRunner().invoke(app, ["classify", *options, "--device", "cpu", "--strict"])
    assert done.exit_code == 1
    assert re.fullmatch(r"error: \S+support/stray\.png: not in a class folder; move it into one, .*\n", done.stderr)


def test_the_lines_of_the_documentation(dense, task, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "own_images.md").read_text()
    block, _ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in block.splitlines() if line]) == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packed/demo").mkdir(parents=True)
    with tarfile.open("packed/demo/network-resnet12-dense-seed0.tar.gz", "w:gz") as file:
        for name in ("model.safetensors", "model.json"):
            file.add(dense / name, f"resources/glyphs/networks/resnet12-dense/seed0/{name}")
    (tmp_path / "photos").mkdir()
    (tmp_path / "support").rename("photos/known")
    (tmp_path / "query").rename("photos/new")
    exec(block, {})
    assert "class0/04.png" in capsys.readouterr().out
    (command,) = re.findall(r"^    fewshot (classify .*)$", page, re.MULTILINE)
    done = CliRunner().invoke(app, command.split(), catch_exceptions=False)
    assert done.exit_code == 0
    assert Path("classified/index.html").exists()


def test_the_lines_of_the_documentation_on_classes_added_for_good(task, tmp_path, tiny_config, tiny_store, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "own_images.md").read_text()
    _, block = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (command,) = re.findall(r"^    fewshot (imprint .*)$", page, re.MULTILINE)
    place = "resources/<store>/networks/<name>-<hash>/seed0"
    assert place in command
    monkeypatch.chdir(tmp_path)
    write_model(Path("model"), tiny_config.stage1.networks["c128f-gap"], tiny_store)
    Path("photos").mkdir()
    Path("support").rename("photos/known")
    for path in Path("photos/known").rglob("0[1-9].png"):
        path.unlink()
    shutil.copytree("photos/known", "photos/new")  # each the exemplar of its class: its cosine with its weight is 1
    assert CliRunner().invoke(app, command.replace(place, "model").split(), catch_exceptions=False).exit_code == 0
    exec(block, {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("photos/")]
    assert [(file, name) for file, name, _ in lines] == [(f"photos/new/class{i}/00.png", f"class{i}") for i in range(WAY)]
    assert all(0 < float(probability) < 1 for *_, probability in lines)


def test_names_are_escaped(dense, task, tmp_path):
    support, query, _ = task
    (support / "class0").rename(support / "<b>bold")
    answer = classify(dense, support, query, device="cpu")
    write_answer(answer, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<b>bold" not in page
