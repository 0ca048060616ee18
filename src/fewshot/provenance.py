"""Where a result comes from: git revision, versions, device, and a hash of the code that made it.

Nothing here imports PyTorch before it is needed: Snakemake calls `source_hash` each time it reads the rules.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import subprocess
from collections.abc import Collection, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot import __version__
from fewshot.errors import DataError
from fewshot.files import file_hash, ignored, read_json

if TYPE_CHECKING:
    import torch

    from fewshot.config import DatasetSettings, NetworkSettings

PACKAGE = "fewshot"
ROOT = Path(__file__).parent

REACH_JOBS_AS_SETTINGS = frozenset(
    f"{PACKAGE}.{name}" for name in ("config", "errors", "job", "job_code", "locks", "plan", "provenance", "stages")
)
"""Left out of `source_hash`: what these decide reaches a job as its settings and paths, which count by themselves, or is only
when it may run."""


def git_revision(folder: Path = ROOT) -> str:
    """The commit that `folder` is checked out from: 40 hexadecimal digits, and `-dirty` when tracked files differ.

    Outside a repository, and where git is not installed, what FEWSHOT_REVISION says, for a copy that went without its history;
    else `unknown`.
    """
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        dirty = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("FEWSHOT_REVISION") or "unknown"
    return revision + ("-dirty" if dirty else "")


def _git(folder: Path, *arguments: str) -> str:
    # The lock that `git status` would take could get in the way of a commit made while a job ends.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(folder), *arguments]  # a program of the user's PATH, fixed arguments
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, env=environment)  # noqa: S603
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of what a number may depend on: python, fewshot, torch, torchvision, numpy (`none`: not installed)."""
    found = {"python": platform.python_version(), PACKAGE: __version__}
    for name in ("torch", "torchvision", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def device_words(device: torch.device | str) -> str:
    """A device in words, for logs and model.json: `CPU (<model>, <n> cores)` or `CUDA (<name>)`."""
    if str(device).startswith("cuda"):
        import torch

        return f"CUDA ({torch.cuda.get_device_name(device)})"
    return f"CPU ({_processor()}, {os.cpu_count() or 1} cores)"


def gpus_in_sight() -> tuple[str, ...]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them; told without PyTorch, from that variable
    or else from the machine's devices."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        names = (name.strip() for name in named.split(","))
        return tuple(name for name in names if name not in ("", "-1", "NoDevFiles"))
    return tuple(str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*")))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def pretrained_hash(settings: NetworkSettings) -> str | None:
    """SHA-256 of the file of weights that a network starts from; None where it names none that is there."""
    weights = settings.backbone.weights_file
    return file_hash(weights) if weights is not None and weights.is_file() else None


def require_weights(path: Path | None) -> None:
    """Refuse a file of weights that is not there; None: none is named.

    Raises:
        DataError: it is missing.
    """
    if path is not None and not path.is_file():
        raise DataError(f"{path}: no such file of weights; bring it, or set the backbone's `weights` to imagenet or none")


def raw_hash(settings: DatasetSettings, store: Path) -> str | None:
    """What tells replaced archives, or a changed folder of images, from those that a store was made of; None for drawn images.

    An archive counts by its bytes, and is read only where it is newer than the store or of another size: one that was fetched
    or linked again is the same. A folder counts by the names, sizes (bytes) and times of change (whole seconds) of its files,
    which are not read.

    Args:
        settings: of the data set.
        store: its folder, which may not be there yet.

    Raises:
        DataError: the store's meta.json is damaged.
    """
    from fewshot.config import content_hash

    if not settings.paths:
        return None
    return content_hash([_stamps(path) if path.is_dir() else _archive_hash(path, store) for path in settings.paths])


def folder_hashes(settings: DatasetSettings) -> dict[str, str]:
    """What tells folders of images from changed ones, as in `raw_hash`, and the split file's bytes: path -> hash."""
    from fewshot.config import content_hash

    found = {str(path): content_hash(_stamps(path)) for path in settings.paths if path.is_dir()}
    split = Path(getattr(settings, "split", None) or "")
    return found | ({str(split): file_hash(split)} if split.is_file() else {})


def archives_as_known(settings: DatasetSettings, store: Path) -> bool:
    """Whether the archives that are there are those that a store was made of, or none is."""
    known = read_json(store / "meta.json").get("archives", {})
    there = [path for path in settings.paths if path.is_file() and path.name in known]
    return all(_archive_hash(path, store) == known[path.name].get("sha256") for path in there)


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    inside = ((path, path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file())
    counted = (path for path, name in inside if not ignored(name))  # as the images of a folder are found
    found = ((path.relative_to(folder.parent), path.stat()) for path in counted)
    return [(str(name), status.st_size, int(status.st_mtime)) for name, status in found]


def _archive_hash(path: Path, store: Path) -> str | None:
    """Of an archive; the one on record where it is gone, or older than the store and as large as the one it was made of, which
    one of another folder need not be. (A move changes `st_ctime` alone.)"""
    meta = store / "meta.json"
    record = read_json(meta).get("archives", {}).get(path.name, {}) if meta.exists() else {}
    known = record.get("sha256")
    if not path.is_file():
        return known
    status = path.stat()
    older = known is not None and max(status.st_mtime_ns, status.st_ctime_ns) < meta.stat().st_mtime_ns
    if older and record.get("bytes", status.st_size) == status.st_size:
        return str(known)
    return file_hash(path)


# --- hash of sources --------------------------------------------------------------------------------------------------


def source_hash(*modules: str, without: Collection[str] = ()) -> str:
    """SHA-256 (hexadecimal) of the syntax trees of `modules` and of all fewshot modules that they import, however deep.

    Docstrings, comments and layout do not count, and neither do the modules of `REACH_JOBS_AS_SETTINGS`. The files are
    read, not imported.

    Args:
        modules: full names, such as `fewshot.training`.
        without: modules not to follow, such as the backbones that a network does not have.

    Raises:
        ModuleNotFoundError: one of `modules` does not exist.
    """
    left_out = REACH_JOBS_AS_SETTINGS | set(without)
    for name in modules:
        if _file(name) is None:
            raise ModuleNotFoundError(f"no module {name} in {ROOT.name}", name=name)
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and not any(name == one or name.startswith(f"{one}.") for one in left_out):
            found.add(name)
            waiting.extend(_parsed(name)[1])
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name}\n{_parsed(name)[0]}\n".encode())
    return digest.hexdigest()


def _file(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@cache
def _parsed(name: str) -> tuple[str, tuple[str, ...]]:
    """The syntax tree of a module as text, docstrings taken out, and the fewshot modules it imports."""
    file = _file(name)
    if file is None:  # pragma: no cover - names come from `_file` lookups
        raise ModuleNotFoundError(name)
    tree = ast.parse(file.read_bytes())
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imported = tuple(sorted(set(_imports(tree, package)) - {PACKAGE}))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a string that stands alone is a docstring, of whatever stands above it
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return ast.dump(tree).replace(", type_params=[]", ""), imported  # which Python has from 3.12 on


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Every fewshot module that `tree` imports, packages on the way included, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == PACKAGE:
                for end in range(1, len(parts) + 1):
                    if _file(".".join(parts[:end])) is not None:
                        yield ".".join(parts[:end])
