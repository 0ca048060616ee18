"""Tiny archives in the publishers' layouts."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.data.prepare import write_source
from fewshot.data.store import Store, open_store


def picture(value, size=(10, 12), kind="PNG", mode="RGB"):
    """An encoded image of one value."""
    stream = io.BytesIO()
    Image.new(mode, size, value if mode in ("1", "L") else (value, value, value)).save(stream, kind)
    return stream.getvalue()


def pack_tar(path, content, mode="w:gz"):
    """content: name -> bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def pack_zip(path, content):
    """content: name -> bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)


def prepared(source, settings, out, workers=1) -> Store:
    """The store of a source that is already open."""
    write_source(source, settings, Path(out), workers=workers, progress=False)
    return open_store(Path(out))


@pytest.fixture
def kit():
    """The functions above: test modules are imported on their own and cannot import this one."""

    class Kit:
        picture = staticmethod(picture)
        pack_tar = staticmethod(pack_tar)
        pack_zip = staticmethod(pack_zip)
        prepared = staticmethod(prepared)

        @staticmethod
        def first_pixels(store):
            return np.asarray(store.images[:, 0, 0, 0]).tolist()

    return Kit
