"""A reader of files from elsewhere, and what is demanded of it whatever it is given."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fewshot.errors import FewshotError


@dataclass(frozen=True)
class Target:
    """A reader: `seeds()` gives inputs that it takes, `read(data, folder)` reads one in a folder of its own."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], None]


@cache
def place() -> Path:
    """The folder of this process; nothing may appear in it but `inside`."""
    return Path(tempfile.mkdtemp(prefix="fewshot-fuzz-"))


@contextmanager
def empty_folder() -> Iterator[Path]:
    """An empty folder, used again and again."""
    folder = place() / "inside"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder


def check(target: Target, data: bytes) -> bool:
    """Read one input; True where it is taken. Anything but one clear line, and anything written elsewhere, is an error."""
    with empty_folder() as folder:
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
