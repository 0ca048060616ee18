"""The code that the result of each job depends on, as one hash a job: an edit elsewhere makes nothing anew.

Snakemake runs a job again when its hash has changed, and a state left by a killed job is taken up only where it has not. Each
function names what its stage imports, and leaves out what the job's settings do not choose. `fewshot.stages`, which calls all
of them, counts for nothing by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot.config import content_hash
from fewshot.provenance import PACKAGE, ROOT, source_hash

if TYPE_CHECKING:
    from fewshot.config import DatasetSettings, NetworkSettings, Views
    from fewshot.plan import AdaptationJob

_JUDGES = ("evaluation", "features", "nearest_prototype")
"""What only judges networks while they are trained: a change there is no reason to train one anew."""


def preparation(dataset: DatasetSettings) -> str:
    """The code that reads a data set, and no other, with the class lists of its splits."""
    code = source_hash(*_named("data.prepare"), dataset.module)
    return _with_files(code, ROOT.joinpath("data", "splits").glob(f"{dataset.name}*"))


def episodes() -> str:
    """The code that draws tasks."""
    return _hash("episodes")


def training(settings: NetworkSettings) -> str:
    """The code of stage 1, of the network's own backbone and objective alone."""
    chosen = settings.backbone.module, settings.training.objective.module
    return source_hash(*_named("base_training", "checkpoint", "device"), *chosen, without=set(_named(*_JUDGES)))


def extraction(settings: NetworkSettings, views: Views = 0) -> str:
    """The code that computes features, by the network's own backbone alone; that of views where they are means over some."""
    used = _named("features", "checkpoint", "device", *(["views"] if views else []))
    return source_hash(*used, settings.backbone.module)


def adaptation(job: AdaptationJob) -> str:
    """The code of the one method, and of the frame that applies it to tasks."""
    return source_hash(*_named("adaptation", "episodes", "checkpoint", "device"), job.settings.module)


def extension(job: AdaptationJob) -> str:
    """The code of the one method, of the frame that applies it to tasks, and of the network that it may train."""
    views = ["views"] if job.settings.views_of_tested else []
    used = _named("extension", "features", "episodes", "checkpoint", "device", *views)
    return source_hash(*used, job.settings.module, job.network.settings.backbone.module)


def evaluation() -> str:
    """The code of the evaluation. What a stage-2 method does reaches it as that method's files."""
    methods = {path.stem for path in (ROOT / "methods").glob("*.py")} - {"__init__", "prototypical"}
    used = _named("task_results", "features", "checkpoint", "device")
    return source_hash(*used, without={f"{PACKAGE}.methods.{name}" for name in methods})


def figures(module: str) -> str:
    """The code of a module of the report that draws, such as `plots`."""
    return _hash(f"report.{module}")


def pages(module: str) -> str:
    """The code of a module of the report that writes pages, such as `page`, with their templates."""
    return _with_files(_hash(f"report.{module}"), ROOT.joinpath("report", "templates").iterdir())


def tracking() -> str:
    """The code that mirrors a run into MLflow."""
    return _hash("tracking")


def _hash(*modules: str) -> str:
    return source_hash(*_named(*modules))


def _with_files(code: str, files: Iterable[Path]) -> str:
    return content_hash([code, [path.read_text(encoding="utf-8") for path in sorted(files)]])


def _named(*modules: str) -> Iterator[str]:
    return (f"{PACKAGE}.{name}" for name in modules)
