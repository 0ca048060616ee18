"""The arrows of the pipeline: from a plan's job to its files. The command line and the Snakemake adapters call only these.

Each takes its paths from the plan, reads what the arrows before it wrote, and writes its outputs atomically; what runs share is
made by one process at a time. Errors are those of what they call: DataError for a file, ConfigError for a setting. Imports
stand inside the functions: PyTorch and seaborn take seconds to load, and a job loads only what it needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot.current import adaptation_outdated
from fewshot.drawings import dropped
from fewshot.locks import only_one
from fewshot.plan import AdaptationJob, EpisodeJob, EvaluationJob, FeaturePart, NetworkJob, Plan
from fewshot.taken import adaptation_folder

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from fewshot.classification import Answer
    from fewshot.data.store import Part


def _made_meanwhile(last: Path, waited: float | None) -> bool:
    """Whether the process that was `waited` for (see `only_one`) has made the output whole; `last` is written last."""
    made = waited is not None and last.exists() and last.stat().st_mtime > waited
    if made:
        logger.info("%s was made by another process meanwhile", last)
    return made


def require(plan: Plan) -> None:
    """Refuse a run that lacks what no arrow makes: files of weights, the published numbers, a GPU that it asks for.

    Said before the first arrow.
    """
    from fewshot.provenance import require_weights
    from fewshot.report.published import load_published

    for job in plan.networks:
        if not (plan.network_dir(job) / "model.json").exists():
            require_weights(job.settings.backbone.weights_file)
    load_published()
    if plan.config.device == "cuda":
        from fewshot.device import select_device

        select_device("cuda")


def prepare(plan: Plan, *, workers: int | None = None, opened: Callable[[], object] = lambda: None) -> None:
    """Archive -> image store. `opened` is called once the archives are found and checked."""
    from fewshot.data import sources
    from fewshot.data.prepare import prepare as prepare_store

    sources.require(plan.config.dataset)  # before there is a folder for the store
    with only_one(plan.store_dir) as waited:
        if _made_meanwhile(plan.store_dir / "meta.json", waited):
            return
        prepare_store(plan.config.dataset, plan.store_dir, workers=workers, opened=opened)


def draw_episodes(plan: Plan, job: EpisodeJob) -> None:
    """Image store -> episode file."""
    from fewshot import episodes
    from fewshot.data.store import open_store

    episodes.save(episodes.draw(open_store(plan.store_dir, images=False), job), plan.episodes_path(job))


def train(plan: Plan, job: NetworkJob, *, threads: int | None = None) -> None:
    """Image store -> trained network (stage 1)."""
    from fewshot import base_training, requirements
    from fewshot.checkpoint import load_network
    from fewshot.data.store import open_store
    from fewshot.device import select_device
    from fewshot.job import until_terminated

    device = select_device(plan.config.device, threads, tensor_float_32=True)
    store = open_store(plan.store_dir)
    requirements.require(store, plan)  # said now, not after hours of training
    teacher = None
    if job.teacher is not None:
        network, info = load_network(plan.network_dir(job.teacher), device, store.data_hash)
        teacher = network, info["sha256"]
    folder = plan.network_dir(job)
    with only_one(folder) as waited, until_terminated() as asked_to_end:
        if _made_meanwhile(folder / "model.json", waited):
            return
        base_training.train(store, job, folder, device, lambda iteration: asked_to_end(), teacher)


def extract(plan: Plan, job: NetworkJob, part: FeaturePart, *, threads: int | None = None) -> None:
    """Trained network -> features of the evaluated classes and of the held-out base images, by location.

    Those of views, and of the images that it was trained on, are pooled as its classifier has them; of one trained densely they
    are averages over locations.
    """
    from fewshot import features, views
    from fewshot.checkpoint import load_network
    from fewshot.data.store import open_store
    from fewshot.device import select_device

    device = select_device(plan.config.device, threads)
    store = open_store(plan.store_dir)
    network, info = load_network(plan.network_dir(job), device, store.data_hash)
    if part.of == "trained":
        images: tuple[Part, ...] = job.settings.training.parts
    else:
        images = (part.of, "held_out") if len(store.rows("held_out")) else (part.of,)
    pooling = "dense" if part == plan.evaluated_part else job.settings.classifier.testing[0]
    computed = partial(views.compute, views=part.views, seed=job.seed) if part.views else features.compute
    folder = plan.features_dir(job, part)
    with only_one(folder) as waited:
        if not _made_meanwhile(folder / "features.json", waited):
            features.extract(network, info, store, images, folder, pooling, part.views, computed)


def adapt(plan: Plan, job: AdaptationJob, *, threads: int | None = None) -> None:
    """Trained network and tasks -> adapted features (stage 2)."""
    from fewshot import adaptation, episodes
    from fewshot.checkpoint import load_network
    from fewshot.data.store import open_store
    from fewshot.device import select_device

    device = select_device(plan.config.device, threads)
    store = open_store(plan.store_dir)
    network, info = load_network(plan.network_dir(job.network), device, store.data_hash)
    tasks = episodes.load(plan.episodes_path(job.episodes), store)
    folder = plan.adapted_dir(job)
    with only_one(folder) as waited:
        if not _made_meanwhile(folder / "adapt.json", waited):
            adaptation.adapt(network, info["sha256"], store, tasks, job, folder)


def extend(plan: Plan, job: AdaptationJob, *, threads: int | None = None) -> None:
    """Trained network, its features and tasks -> predictions of an extended classifier (stage 2)."""
    from fewshot import episodes, extension, features
    from fewshot.checkpoint import load_network
    from fewshot.data.store import open_store
    from fewshot.device import select_device

    device = select_device(plan.config.device, threads)
    store = open_store(plan.store_dir)
    network, info = load_network(plan.network_dir(job.network), device, store.data_hash)
    parts = plan.parts_read(job)
    table, *learnt = (features.load(plan.features_dir(job.network, part), info["sha256"]) for part in parts)
    tasks = episodes.load(plan.episodes_path(job.episodes), store)
    folder = plan.adapted_dir(job)
    with only_one(folder) as waited:
        if not _made_meanwhile(folder / "adapt.json", waited):
            extension.extend(network, info["sha256"], store, table, tasks, job, folder, *learnt)


def evaluate(plan: Plan, job: EvaluationJob, *, threads: int | None = None) -> None:
    """Features and tasks -> accuracy of every task, one parquet file a setting, and settings.json."""
    from fewshot import features, requirements, task_results
    from fewshot.checkpoint import load_network
    from fewshot.data.store import open_store
    from fewshot.device import select_device

    device = select_device(plan.config.device, threads)
    store = open_store(plan.store_dir, images=False)
    requirements.require(store, plan)  # its networks may have been trained for another run
    network, info = load_network(plan.network_dir(job.network), device, store.data_hash)
    table = features.load(plan.features_dir(job.network), info["sha256"])
    with only_one(plan.evaluation_dir(job)):
        task_results.evaluate(plan, job, store, network, info, table)


def imprint(model: Path, images: Path, out: Path, *, threads: int | None = None) -> list[str]:
    """Trained network and a folder of class folders -> a network that knows those classes too; their names."""
    from fewshot.device import select_device
    from fewshot.new_classes import add_classes

    with only_one(out):
        return add_classes(model, images, out, select_device("auto", threads))


def evaluated(plan: Plan, job: EvaluationJob) -> bool:
    """Whether a job's results are there and belong to the present settings, network and code."""
    from fewshot import task_results

    return task_results.is_current(plan, job)


def awaited(plan: Plan, job: NetworkJob, part: FeaturePart) -> bool:
    """Whether a network's features of `part` are wanted: those that only adaptations take, until all these are there."""
    if part == plan.evaluated_part:
        return True
    learners = (made for made in plan.adaptations if made.network == job and part in plan.parts_read(made))
    return any(not (adaptation_folder(plan, one) / "adapt.json").exists() or adaptation_outdated(plan, one) for one in learners)


def pack(plan: Plan, out: Path) -> list[Path]:
    """What is complete of a run -> archives to carry to another machine."""
    from fewshot import transfer

    return transfer.pack(plan, out)


def take(archives: Sequence[Path]) -> tuple[Plan, list[Path]]:
    """Archives from another machine -> outputs of the pipeline, which are named."""
    from fewshot import transfer

    return transfer.take(archives)


def assemble(plan: Plan) -> None:
    """Task results -> summary.csv, paired.csv, metrics.json, tables. Figures that the run no longer asks for go."""
    from fewshot.report import assembly

    # Snakemake has notes only on tables of its own: it sets the mark after the job, and without it makes them anew.
    plan.assembled_path.unlink(missing_ok=True)
    assembly.assemble(plan)
    for name in dropped(plan):
        for left in (plan.results / "figures").glob(f"{name}.*"):
            left.unlink()


def draw_figures(plan: Plan) -> None:
    """Task results and training curves -> figures."""
    from fewshot.report import plots

    plots.draw_figures(plan)


def draw_distance_figures(plan: Plan) -> None:
    """Task results and training curves of networks trained on tasks -> figures 3 to 8 of paper 002."""
    from fewshot.report import distance_figures

    distance_figures.draw_distance_figures(plan)


def draw_low_shot_figures(plan: Plan) -> None:
    """Predictions and curves of extended classifiers -> figures 3 to 7 of paper 001."""
    from fewshot.report import low_shot_figures

    low_shot_figures.draw_low_shot_figures(plan)


def draw_class_vectors(plan: Plan) -> None:
    """A network and the images -> classes by activations and by parameters (the figure of paper 004's README)."""
    from fewshot.report import class_vectors

    plan.drawn_path("class_vectors").unlink(missing_ok=True)  # as in `assemble`
    class_vectors.draw_class_vectors(plan)


def draw_activation_maps(plan: Plan) -> None:
    """Two networks and the images -> class activation maps (figure 3 of paper 000), as pictures and in numbers."""
    from fewshot.report import activation_maps

    plan.drawn_path("activation_maps").unlink(missing_ok=True)  # as in `assemble`
    activation_maps.draw_activation_maps(plan)


DRAWINGS: Mapping[str, Callable[[Plan], None]] = {
    function.__name__: function
    for function in (draw_figures, draw_distance_figures, draw_low_shot_figures, draw_class_vectors, draw_activation_maps)
}
"""Names in `fewshot.drawings` -> what draws."""


def write_report(plan: Plan) -> None:
    """Task results, tables, figures, records of the jobs -> report.html."""
    from fewshot.report import page

    page.write_report(plan)


def classify(
    model: Path, support: Path, query: Path, out: Path, *, implant: bool = False, scale: float | None = None,
    strict: bool = False, device: str = "auto",
) -> Answer:  # fmt: skip
    """A trained network, some images of new classes and images to classify -> predictions.csv and a page to look at."""
    from fewshot.classification import classify as answer
    from fewshot.config import ImplantingSettings
    from fewshot.report.answer_page import write_answer

    settings = ImplantingSettings(method="implanting") if implant else None
    found = answer(model, support, query, implant=settings, scale=scale, strict=strict, device=device)
    write_answer(found, out)
    return found
