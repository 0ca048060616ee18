"""Figures 3 to 7 of paper 001 from a run's own files, each beside a csv file (figure 5: a picture and a csv file)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fewshot import predictions
from fewshot.config import ImprintingSettings
from fewshot.data.store import open_store
from fewshot.episodes import load as load_episodes
from fewshot.files import read_record
from fewshot.plan import AdaptationJob, Plan
from fewshot.report import drawing, low_shot_drawing
from fewshot.report.assembly import by_place, write_csv
from fewshot.report.papers import stage2_name
from fewshot.report.published import PUBLISHED, Published, load_published
from fewshot.report.results import Row, make_rows, read_lines, read_settings, read_store
from fewshot.report.statistics import shown_interval
from fewshot.taken import adaptation_folder

SHOWN = 8
"""Classes and cases in the picture of exemplars."""


def draw_low_shot_figures(plan: Plan, published: Any = PUBLISHED) -> None:
    """Draw the figures into results/<run>/figures.

    Args:
        plan: of a run with `way: all`; its adaptations and evaluations are done.
        published: the file of published numbers.
    """
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(load_published(published)))
    folder, run = plan.results / "figures", plan.config.run
    accuracies = accuracy_table(rows)
    figures = {
        "finetuning_curves": (curve_table(plan, rows), low_shot_drawing.finetuning_curves, "Accuracy by epoch of fine-tuning"),
        "low_shot_accuracy": (accuracies, low_shot_drawing.accuracy_by_exemplars, "Accuracy by exemplars a class"),
        "embedding_size": (accuracies, low_shot_drawing.accuracy_by_embedding, "Accuracy by width of the embedding"),
    }
    for name, (table, draw, title) in figures.items():
        write_csv(folder / f"{name}.csv", table)
        with drawing.style():
            drawing.save(draw(table, f"{title} (run {run})"), folder / f"{name}.svg")
    _draw_exemplars(plan)


def curve_table(plan: Plan, rows: Sequence[Row]) -> pd.DataFrame:
    """Figures 3 and 4: one row a fine-tuned adaptation, shot, population and epoch; means over draws of the first seed."""
    columns = ["network", "adaptation", "method", "shot", "population", "epoch", "accuracy", "ci95"]
    methods = {(row.record.network.name, row.record.adaptation): row.method for row in rows}
    parts = []
    for job in plan.adaptations:
        if job.settings.gives != "classifier" or job.network.seed != plan.config.seeds[0]:
            continue
        lines = read_lines(adaptation_folder(plan, job) / "metrics.jsonl")
        for population in ("novel_in_all", "all", "novel"):
            if population in lines:
                ci95 = lines.get(f"{population}_ci95", np.nan)  # none of a single draw
                part = pd.DataFrame({"epoch": lines["epoch"], "accuracy": lines[population], "ci95": ci95})
                method = methods[job.network.name, job.name]
                part = part.assign(network=job.network.name, adaptation=job.name, method=method)
                parts.append(part.assign(shot=job.episodes.shot, population=population))
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def accuracy_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Figures 6 and 7: one row a network, adaptation, shot and population, over seeds.

    `series`: the first of the networks that differ from this one in nothing but the width of the embedding.
    """
    found = []
    series: dict[str, str] = {}
    for group in by_place(rows).values():
        first = group[0]
        network = first.record.network
        mean, ci95 = shown_interval([row.accuracy for row in group], first.ci95)
        found.append(
            {
                "network": network.name, "adaptation": first.record.adaptation, "method": first.method,
                "objective": network.settings.training.objective.kind, "embedding": network.info["feature_shape"][0],
                "series": series.setdefault(network.settings.model_copy(update={"embedding": None}).key(), network.name),
                "stage2": stage2_name(first.record.adaptation_settings), "shot": first.record.evaluated.shot,
                "population": first.population, "accuracy": mean, "ci95": ci95,
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def _one_shot_job(plan: Plan) -> AdaptationJob | None:
    """The imprinting whose exemplars are shown: without fine-tuning, with the fewest of them."""
    jobs = [
        job
        for job in plan.adaptations
        if isinstance(job.settings, ImprintingSettings) and stage2_name(job.settings) in ("imprinting", "imprinting-aug")
    ]
    return min(jobs, key=lambda job: job.episodes.shot, default=None)


def exemplar_tables(plan: Plan, job: AdaptationJob) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Figure 5 of a job's first draw: novel classes by recall, and cases right and wrong.

    Returns:
        classes: class, exemplar (store row of the first), recall (percent, among all classes), falling.
        cases: image, class, predicted, right, exemplar of the predicted class (-1: a base class), in a random order.
    """
    store = open_store(plan.store_dir)
    episodes = load_episodes(plan.episodes_path(job.episodes), store)
    sha256 = read_record(plan.network_dir(job.network) / "model.json")["sha256"]
    said = predictions.load(adaptation_folder(plan, job), sha256, episodes)[0]
    query, support = episodes.query[0], episodes.support[0]
    names = store.classes["name"].to_numpy()
    novel, base = names[store.labels[support[:, 0]]], store.num_base
    own = np.repeat(np.arange(len(query)), query.shape[1])
    there = query.ravel() >= 0
    own, rows, guess = own[there], query.ravel()[there], said[: query.size][there][:, 0]
    right = guess == own + base
    recall = 100 * np.bincount(own, weights=right, minlength=len(query)) / np.maximum(np.bincount(own, minlength=len(query)), 1)
    classes = pd.DataFrame({"class": novel, "exemplar": support[:, 0], "recall": recall})
    is_novel = guess >= base
    number = np.where(is_novel, guess - base, 0)
    cases = pd.DataFrame(
        {
            "image": rows, "class": novel[own],
            "predicted": np.where(is_novel, novel[number], names[np.minimum(guess, base - 1)]),
            "right": np.where(right, "yes", "no"), "exemplar": np.where(is_novel, support[number, 0], -1),
        }
    )  # fmt: skip
    order = np.random.default_rng(plan.config.evaluation.seed).permutation(len(cases))
    return classes.sort_values("recall", ascending=False, kind="stable", ignore_index=True), cases.iloc[order]


def _draw_exemplars(plan: Plan) -> None:
    folder, job = plan.results / "figures", _one_shot_job(plan)
    if job is None:
        classes, cases = pd.DataFrame(columns=["class", "exemplar", "recall"]), pd.DataFrame(columns=["right"])
    else:
        classes, cases = exemplar_tables(plan, job)
    write_csv(folder / "exemplars.csv", classes)
    shown = classes.iloc[np.unique(np.linspace(0, len(classes) - 1, min(SHOWN, len(classes))).astype(int))]
    chosen = {words: cases[cases["right"] == right].head(SHOWN) for words, right in (("right", "yes"), ("wrong", "no"))}
    with drawing.style():
        title = f"Exemplars by recall (run {plan.config.run})"
        figure = low_shot_drawing.exemplars(open_store(plan.store_dir), shown, chosen, title)
        drawing.save(figure, folder / "exemplars.png")
