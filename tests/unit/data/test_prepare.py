import io
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.config import GlyphsSettings
from fewshot.data.decoding import decode_all
from fewshot.data.pictures import decode_image
from fewshot.data.prepare import prepare, write_source
from fewshot.data.sources import Item, Source
from fewshot.data.store import open_store
from fewshot.errors import DataError

SETTINGS = GlyphsSettings(name="glyphs", image_size=16, classes=8, images_per_class=6)


def flat(payload):
    """A picture of one value; `None` stands for a file that does not decode."""
    return np.full((16, 16, 3), payload, dtype=np.uint8)


def source(items, **changes):
    fields = {
        "classes": (("b", "base"), ("a", "val"), ("c", "test")),
        "items": lambda: iter(items),
        "decode": flat,
        "image_size": 16,
        "images": len(items),
    }
    return Source(**(fields | changes))


def toy_items():
    return [Item(f"{label}/{i}", label, 20 * i + ord(label) - ord("a")) for i in (3, 0, 2, 1) for label in "cab"]


def store_of(out, items, settings=SETTINGS, workers=1, **changes):
    write_source(source(items, **changes), settings, out, workers=workers, progress=False)
    return open_store(out)


# --- held-out images ------------------------------------------------------------------------------------------------


def test_only_base_images_are_held_out(tmp_path):
    store = store_of(tmp_path / "store", toy_items())
    assert store.held_out.sum() == 1
    assert set(store.labels[store.held_out]) == {0}


def test_a_division_of_the_set_itself_goes_first(tmp_path):
    items = [item._replace(held_out=item.file.endswith(("1", "2"))) for item in toy_items()]
    store = store_of(tmp_path / "store", items)
    assert store.held_out.reshape(3, 4).tolist() == [[False, True, True, False]] * 3


# --- rows -----------------------------------------------------------------------------------------------------------


def test_rows_go_by_class_and_file_whatever_the_archive_order(tmp_path):
    store = store_of(tmp_path / "one", toy_items())
    assert store.classes["name"].tolist() == ["b", "a", "c"]
    assert store.images[:, 0, 0, 0].tolist() == [1, 21, 41, 61, 0, 20, 40, 60, 2, 22, 42, 62]
    assert store.data_hash == store_of(tmp_path / "two", toy_items()[::-1]).data_hash


def test_workers_make_no_difference(tmp_path):
    hashes = set()
    for workers in (1, 2):
        prepare(SETTINGS, tmp_path / "store", workers=workers, progress=False)
        hashes.add(open_store(tmp_path / "store").data_hash)
    assert len(hashes) == 1


def test_batches_are_bounded_and_read_ahead_is_too(tmp_path, monkeypatch):
    monkeypatch.setattr("fewshot.data.decoding.BATCH_IMAGES", 2)
    asked, done = [], []

    def items():
        for i in range(40):
            asked.append(i)
            assert len(asked) - sum(done) <= 2 * (2 * 2 + 1) + 1
            yield Item(str(i), "a", i)

    decode_all(items(), flat, 16, tmp_path / "raw", workers=2, advance=done.append, seen=lambda item: None)
    found = np.fromfile(tmp_path / "raw", dtype=np.uint8).reshape(40, -1)
    assert found[:, 0].tolist() == list(range(40))


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_does_not_decode_is_named(tmp_path, workers):
    items = [*toy_items(), Item("set.tar:b/broken.jpg", "b", b"no image")]
    with pytest.raises(DataError, match=r"^set\.tar:b/broken\.jpg: the image does not decode [^\n]*$"):
        store_of(tmp_path / "store", items, workers=workers, decode=partial(decode_or_flat, size=16))
    assert list(tmp_path.iterdir()) == []


def decode_or_flat(payload, size):
    return decode_image(payload, size) if isinstance(payload, bytes) else flat(payload)


def test_a_truncated_jpeg_is_named(tmp_path):
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG")
    items = [*toy_items(), Item("b/cut.jpg", "b", stream.getvalue()[:900])]
    with pytest.raises(DataError, match=r"b/cut\.jpg: the image does not decode"):
        store_of(tmp_path / "store", items, decode=partial(decode_or_flat, size=16))


@pytest.mark.parametrize(
    ("items", "changes", "message"),
    [
        (toy_items()[:-1], {"images_per_class": 4, "images": 12}, "class 'b' has 3 images, expected 4"),
        (toy_items(), {"images": 13}, "12 images, expected 13"),
        (toy_items(), {"images_per_class": 5, "images": None}, "class 'b' has 4 images, expected 5"),
        ([item for item in toy_items() if item.label != "c"], {"images": None}, "class 'c' has 0 images, expected at"),
        ([item for item in toy_items() if item.label != "c"], {}, "class 'c' has 0 images"),
    ],
)
def test_counts_that_differ(tmp_path, items, changes, message):
    with pytest.raises(DataError, match=message):
        store_of(tmp_path / "store", items, **changes)
    assert list(tmp_path.iterdir()) == []


def test_images_that_nobody_knows_the_number_of_are_counted(tmp_path):
    store = store_of(tmp_path / "store", toy_items()[:-1], images=None)
    assert store.classes["images"].tolist() == [3, 4, 4]


def test_the_number_of_images_follows_from_that_of_a_class():
    assert source([], images=None, images_per_class=4).expected == 12
    assert source([], images=7).expected == 7
    assert source([], images=None).expected is None


def test_a_class_that_is_not_in_the_split_is_named(tmp_path):
    items = [*toy_items(), Item("set.tar:d/0.png", "d", 1)]
    with pytest.raises(DataError, match=r"^set\.tar:d/0\.png: class 'd' is not in the split; add it there, or"):
        store_of(tmp_path / "store", items)
    assert list(tmp_path.iterdir()) == []


def other_size(payload):
    return np.zeros((20, 24, 3), np.uint8)


def between_0_and_1(payload):
    return np.ones((16, 16, 3))


def grey(payload):
    return np.zeros((16, 16, 1), np.uint8)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("decode", "words"),
    [
        (other_size, "24 x 20 pixels, image_size is 16"),
        (between_0_and_1, "float64 (16, 16, 3), not uint8 (16, 16, 3)"),
        (grey, "uint8 (16, 16, 1), not uint8 (16, 16, 3)"),
    ],
)
def test_what_no_other_file_would_mend_is_said_once(tmp_path, decode, words, workers):
    with pytest.raises(DataError, match=f"^c/3: decode gives {re.escape(words)}$"):
        store_of(tmp_path / "store", toy_items(), decode=decode, workers=workers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("images", [11, 13])
def test_a_refused_set_leaves_no_folder(tmp_path, images):
    with pytest.raises(DataError, match="images, expected"):
        store_of(tmp_path / "resources" / "toys" / "images", toy_items(), images=images)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_more_images_than_the_set_has_is_read_no_further(tmp_path):
    read = []

    def endless():
        while True:
            read.append(1)
            yield Item(f"b/{len(read)}", "b", 1)

    with pytest.raises(DataError, match="the archive is not the complete set"):
        write_source(replace(source([]), items=endless, images=3), SETTINGS, tmp_path / "store", workers=1, progress=False)
    assert len(read) == 4


def test_failure_keeps_an_old_store(tmp_path):
    before = store_of(tmp_path / "store", toy_items()).data_hash
    with pytest.raises(DataError):
        store_of(tmp_path / "store", toy_items()[:-1], images_per_class=4)
    assert open_store(tmp_path / "store").data_hash == before
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def die(payload):
    os._exit(1)


def test_a_dead_worker_is_one_line(tmp_path):
    with pytest.raises(DataError, match="a decoding process died"):
        store_of(tmp_path / "store", toy_items(), workers=2, decode=die)
    assert list(tmp_path.iterdir()) == []


def test_prepare_works_when_processes_are_spawned(tmp_path):
    """As on systems that do not fork: the script's own guard is all it takes."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from pathlib import Path\n"
        "from fewshot.config import GlyphsSettings\n"
        "from fewshot.data.prepare import prepare\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    settings = GlyphsSettings(name='glyphs', image_size=16, classes=8, images_per_class=6)\n"
        "    prepare(settings, Path(sys.argv[1]), workers=2, progress=False)\n"
    )
    subprocess.run([sys.executable, script, tmp_path / "spawned"], check=True, timeout=60)
    prepare(SETTINGS, tmp_path / "here", workers=1, progress=False)
    assert open_store(tmp_path / "spawned").data_hash == open_store(tmp_path / "here").data_hash


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from fewshot.data.decoding import decode_all\n"
        "from fewshot.data.sources import Item\n"
        "def decode(payload):\n"
        "    os.write(1, f'{os.getpid()}\\n'.encode())\n"  # in one piece, whoever else writes
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    items = [Item(str(i), 'a', i) for i in range(600)]\n"
        "    decode_all(items, decode, 8, Path(sys.argv[1]), workers=2, advance=print, seen=lambda item: None)\n"
    )
    with subprocess.Popen([sys.executable, script, tmp_path / "raw"], stdout=subprocess.PIPE, text=True) as process:
        workers = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
        deadline = time.monotonic() + 50  # less than they sleep
        while any(map(running, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(running, workers))


def running(process):
    """Whether a process lives; one that nobody has collected yet does not."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
