"""What was run, on what, and where the numbers come from: the words at the head and the end of a run's report."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fewshot.config.extension import Extension
from fewshot.data.store import Store
from fewshot.files import read_record
from fewshot.plan import Plan
from fewshot.provenance import git_revision
from fewshot.report.cells import pair_title
from fewshot.report.results import NetworkRecord, Row
from fewshot.report.times import JobTime, duration
from fewshot.taken import adaptation_folder, evaluation_folder


def facts(plan: Plan, store: Store, networks: Sequence[NetworkRecord], times: Sequence[JobTime]) -> list[tuple[str, str]]:
    """What was run, on what: (term, words)."""
    config, evaluation = plan.config, plan.config.evaluation
    parts = store.classes.groupby("part")["name"].count()
    held_out = len(store.rows("held_out"))
    images = f"{len(store.labels):,} of {store.image_size} px" + (f", {held_out:,} held out of training" if held_out else "")
    names = dict.fromkeys(network.name for network in networks)
    seeds = ", ".join(map(str, config.seeds))
    known = [time.seconds for time in times if time.seconds is not None]
    timed = "all jobs" if len(known) == len(times) else f"{len(known)} of {len(times)} jobs, the others left no time"
    part = _PARTS[evaluation.part]
    way = "all classes" if evaluation.way == "all" else f"{evaluation.way}-way"
    queries = _QUERIES.get(evaluation.queries, f"{evaluation.queries} queries a class")
    return [
        ("Run", config.run),
        ("Data set", config.dataset.name),
        ("Images", images),
        ("Classes", ", ".join(f"{parts.get(key, 0)} {word}" for key, word in _PARTS.items())),
        ("Networks", f"{len(names)}, seed{'s' if len(config.seeds) > 1 else ''} {seeds}"),
        ("Tasks", f"up to {evaluation.tasks:,} a setting, of {part} classes"),
        ("A task", f"{way}, {_listed(evaluation.shots)} shots, {queries}"),
        ("Work", f"{duration(sum(known))}, sum of {timed}"),
        ("On", "; ".join(_each(network.info.get("device") for network in networks))),
    ]


_QUERIES: Mapping[int | str, str] = {"all": "all test images", "remaining": "all other images of its classes"}
"""Queries of a task that are no number a class."""

_TERMS = {
    "GAP": "global average pooling", "GMP": "global maximum pooling", "DC": "dense classification, every location by itself",
    "IMP": "implants", "WIDE": "a last block as wide as implants make it", "FLAT": "flattened features",
    "LSED": "leaky squared Euclidean distance", "Act2Param": "parameters predicted from activations",
    "FT": "fine-tuning", "Aug": "augmented views",
}  # fmt: skip
"""What the tables abbreviate."""


def terms(rows: Sequence[Row]) -> str:
    """The abbreviations of this run's tables, spelled out."""
    names = {row.method for row in rows}
    names |= {pair_title(f"{row.record.evaluated.support_pooling}/{row.record.evaluated.query_pooling}") for row in rows}
    found = {word for name in names for word in re.findall(r"\w+", name)}
    terms = {short: words for short, words in _TERMS.items() if short in found}
    for settings in (row.record.adaptation_settings for row in rows):
        if isinstance(settings, Extension) and settings.title and settings.title not in terms:
            terms[settings.title] = (inspect.getdoc(settings) or "").partition("\n")[0].rstrip(".")
    return "; ".join(f"{short}: {words}" for short, words in terms.items())


_PARTS = {"base": "base", "val": "validation", "test": "test"}


def origin(plan: Plan, networks: Sequence[NetworkRecord], store: Store) -> list[tuple[str, str]]:
    """Where the numbers come from, revisions, versions and data: (term, words).

    Raises:
        DataError: the record of an adaptation or an evaluation is missing or damaged.
    """
    adapted = [read_record(adaptation_folder(plan, job) / "adapt.json") for job in plan.adaptations]
    evaluated = [read_record(evaluation_folder(plan, job) / "settings.json") for job in plan.evaluations]
    made = {"networks": [network.info for network in networks], "stage 2": adapted, "evaluation": evaluated}
    revisions = {what: ", ".join(_each(one.get("git_revision") for one in records)) for what, records in made.items()}
    versions = [network.info.get("versions") or {} for network in networks]
    names = dict.fromkeys(name for known in versions for name in known)
    found = [(f"revision, {what}", words) for what, words in revisions.items()]
    found.append(("revision, this page", git_revision()))
    found += [(name, ", ".join(_each(known.get(name) for known in versions))) for name in names]
    for name, archive in store.meta.get("archives", {}).items():
        found.append((name, str(archive.get("checked") or "hash not checked")))
    return [(name, words) for name, words in [*found, ("images (data hash)", store.data_hash)] if words]


def _each(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _listed(values: Sequence[int]) -> str:
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last
