"""`fewshot`: the pipeline's functions without Snakemake. Each command reads a run file and does one step of the pipeline.

    fewshot prepare config/runs/fc100.yaml
    fewshot train config/runs/fc100.yaml --network resnet12-dense
    fewshot run config/runs/fc100.yaml          everything, in order

Outputs lie where the pipeline puts them, so that either can go on where the other stopped; tables, figures and report of this
command are made again by the other.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml

from fewshot import __version__, current, stages
from fewshot.config import load, schema
from fewshot.drawings import drawings
from fewshot.job import end_if_asked, user_errors
from fewshot.locks import tidy
from fewshot.plan import FeaturePart, NetworkJob, Plan
from fewshot.taken import adaptation_folder, evaluation_folder

logger = logging.getLogger(__name__)
app = typer.Typer(
    help="Few-shot image classification experiments; each command is one step of the pipeline.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip

Config = Annotated[Path, typer.Argument(help="The run's YAML file, as config/runs/fc100.yaml.")]
Network = Annotated[str | None, typer.Option(help="Only this network of stage1.networks (default: all that the run uses).")]
Seed = Annotated[int | None, typer.Option(help="Only this seed (default: all of the run).")]
Threads = Annotated[int | None, typer.Option(help="CPU threads (default: all cores).", min=1)]
Force = Annotated[bool, typer.Option(help="Do again what is there already.")]


def _plan(config: Path) -> Plan:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    return Plan(load(config))


def _missing(path: Path, force: bool, outdated: Callable[[], str | None]) -> Callable[[], None] | None:
    """Whether a job has to run: its last output, `path`, is not there, or to be made again, by `force` or as `outdated`.

    Returns:
        None where it has not; else what is to be called when its work starts, which says why it is done again.
    """
    if not path.exists() or force:
        return lambda: None
    why = outdated()
    if why is not None:
        return partial(logger.info, "%s is %s: making it again", path, why)
    tidy(path)
    logger.info("%s is there; --force does it again", path)
    return None


def _forgotten(files: Iterable[Path]) -> None:
    """Have Snakemake, where it worked here, take away its notes on files that it may have made once and that are others now.

    It would compare the settings and the code of the old ones with the present, and train the networks again.
    """
    if Path(".snakemake").is_dir() and Path("Snakefile").is_file() and find_spec("snakemake"):
        command = [sys.executable, "-m", "snakemake", "--quiet", "all", "--cleanup-metadata", *map(str, files)]
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603  it ends with 1 where there were no notes


@app.command()
def prepare(config: Config, workers: Threads = None, force: Force = False) -> None:
    """Archive to image store: decode every image once."""
    with user_errors():
        plan = _plan(config)
        if say := _missing(plan.store_dir / "meta.json", force, partial(current.store_outdated, plan)):
            stages.prepare(plan, workers=workers, opened=say)  # archives and their hashes may be refused first


@app.command()
def episodes(config: Config, force: Force = False) -> None:
    """Image store to episode files: draw the tasks of every number of shots."""
    with user_errors():
        plan = _plan(config)
        for shot in plan.config.evaluation.shots:
            job = plan.episodes(shot)
            if say := _missing(plan.episodes_path(job), force, partial(current.episodes_outdated, plan, job)):
                say()
                stages.draw_episodes(plan, job)


@app.command()
def train(config: Config, network: Network = None, seed: Seed = None, threads: Threads = None, force: Force = False) -> None:
    """Image store to trained networks (stage 1). A killed training goes on where it was."""
    with user_errors():
        plan = _plan(config)
        for job in plan.select(network, seed):
            if say := _missing(plan.network_dir(job) / "model.json", force, partial(current.network_outdated, plan, job)):
                say()
                stages.train(plan, job, threads=threads)
                _forgotten(path for path in plan.network_dir(job).iterdir() if path.is_file())
                end_if_asked()


@app.command()
def extract(config: Config, network: Network = None, seed: Seed = None, threads: Threads = None, force: Force = False) -> None:
    """Trained networks to features of the evaluated images, and of what methods read beside them."""
    with user_errors():
        plan = _plan(config)
        for job in plan.select(network, seed):
            if not plan.feature_parts(job):
                logger.info("%s: no test names it, so it needs no features", job.name)
            for part in plan.feature_parts(job):
                _extract(plan, job, part, threads, force)


def _extract_awaited(config: Path, threads: int | None) -> None:
    """As `extract`, less the features that only adaptations take which are there already."""
    with user_errors():
        plan = _plan(config)
        for job in plan.networks:
            for part in plan.feature_parts(job):
                if stages.awaited(plan, job, part):
                    _extract(plan, job, part, threads)


def _extract(plan: Plan, job: NetworkJob, part: FeaturePart, threads: int | None, force: bool = False) -> None:
    record = plan.features_dir(job, part) / "features.json"
    if say := _missing(record, force, partial(current.features_outdated, plan, job, part)):
        say()
        stages.extract(plan, job, part, threads=threads)


@app.command()
def adapt(config: Config, network: Network = None, seed: Seed = None, threads: Threads = None, force: Force = False) -> None:
    """Trained networks and tasks to adapted features, or to predictions of extended classifiers (stage 2).

    Goes on where it was killed.
    """
    with user_errors():
        plan = _plan(config)
        chosen = plan.select(network, seed)
        arrows = {"features": stages.adapt, "classifier": stages.extend}
        for job in plan.adaptations:
            record = adaptation_folder(plan, job) / "adapt.json"
            if job.network not in chosen:
                continue
            if say := _missing(record, force, partial(current.adaptation_outdated, plan, job)):
                say()
                arrows[job.settings.gives](plan, job, threads=threads)


@app.command()
def evaluate(config: Config, network: Network = None, seed: Seed = None, threads: Threads = None, force: Force = False) -> None:
    """Features and tasks to per-task accuracies."""
    with user_errors():
        plan = _plan(config)
        chosen = plan.select(network, seed)
        for job in plan.evaluations:
            if job.network not in chosen:
                continue
            if force or not stages.evaluated(plan, job):
                stages.evaluate(plan, job, threads=threads)
            else:
                tidy(evaluation_folder(plan, job) / "settings.json")


@app.command()
def assemble(config: Config) -> None:
    """Per-task accuracies to summary.csv, tables, figures and the report, beside the published numbers."""
    with user_errors():
        plan = _plan(config)
        stages.assemble(plan)
        for drawing in drawings(plan):
            stages.DRAWINGS[drawing](plan)
        stages.write_report(plan)
        typer.echo(f"report: {plan.results / 'report.html'}  tables: {plan.results / 'tables'}")


@app.command()
def pack(config: Config, out: Annotated[Path, typer.Option(help="The archives lie in <out>/<run>.")] = Path("packed")) -> None:
    """Pack what is complete of a run (networks, per-task results), to be taken up on another machine."""
    with user_errors():
        for path in stages.pack(_plan(config), out):
            typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


@app.command()
def take(archives: Annotated[list[Path], typer.Argument(help="What `fewshot pack` wrote.")]) -> None:
    """Take up packed archives as outputs of the pipeline: `snakemake` and `fewshot` then go on from them."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    with user_errors():
        plan, files = stages.take(archives)
        _forgotten(files)
        typer.echo(f"taken: run {plan.config.run}; networks in {plan.resources / 'networks'}, results in {plan.results}")


@app.command()
def imprint(
    model: Annotated[Path, typer.Option(help="A network's folder, or its archive as `fewshot pack` writes it.")],
    images: Annotated[Path, typer.Option(help="Folder with one sub-folder of images a new class.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write (default: beside the model, <model>-imprinted).")] = None,
    threads: Threads = None,
) -> None:
    """Add classes to a trained network from a few images of each, in one pass and without training (imprinting)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    with user_errors():
        target = out or model.with_name(f"{model.name.removesuffix('.tar.gz')}-imprinted")
        names = stages.imprint(model, images, target, threads=threads)
        typer.echo(f"{target}: {len(names)} new classes: {', '.join(names)}")


Arrow = Literal["prepare", "episodes", "train", "extract", "adapt", "evaluate", "assemble"]


@app.command()
def run(
    config: Config,
    threads: Threads = None,
    until: Annotated[Arrow, typer.Option(help="The last of them to be taken.")] = "assemble",
) -> None:
    """Everything in order, prepare, episodes, train, extract, adapt, evaluate, assemble; what is there already is kept."""
    with user_errors():
        stages.require(_plan(config))
    arrows: dict[Arrow, Callable[[], None]] = {
        "prepare": partial(prepare, config, threads),
        "episodes": partial(episodes, config),
        "train": partial(train, config, threads=threads),
        "extract": partial(_extract_awaited, config, threads),
        "adapt": partial(adapt, config, threads=threads),
        "evaluate": partial(evaluate, config, threads=threads),
        "assemble": partial(assemble, config),
    }
    for name, arrow in arrows.items():
        arrow()
        if name == until:
            return


@app.command()
def classify(
    model: Annotated[Path, typer.Option(help="A network's folder, or its archive as `fewshot pack` writes it.")],
    support: Annotated[Path, typer.Option(help="Folder with a sub-folder of images for each class.")],
    query: Annotated[Path, typer.Option(help="Folder of images to classify.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and index.html.")] = Path("classified"),
    implant: Annotated[
        bool, typer.Option("--implant", help="Train implants on the support images (needs at least two per class).")
    ] = False,
    scale: Annotated[float | None, typer.Option(help="Scale of the cosines (default: the network's own).", min=0.01)] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what is no image or in no class folder, in place of skipping it.")
    ] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
) -> None:
    """Classify your own images among classes of which a few examples are given."""
    logging.basicConfig(level=logging.WARNING, force=True)
    with user_errors():
        found = stages.classify(model, support, query, out, implant=implant, scale=scale, strict=strict, device=device)
        for name, why in found.skipped:
            typer.echo(f"skipped: {name} ({why})", err=True)
        said = f"{len(found.queries)} images, {len(found.classes)} classes"
        typer.echo(f"{said}: {out / 'predictions.csv'}, {out / 'index.html'}")


@app.command()
def settings(config: Config) -> None:
    """Print a run's settings whole: what its file extends and every default spelled out."""
    with user_errors():
        typer.echo(yaml.safe_dump(load(config).as_dict(), sort_keys=False, allow_unicode=True), nl=False)


@app.command(name="schema")
def print_schema() -> None:
    """Print the JSON schema of a run's config."""
    typer.echo(schema(), nl=False)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of `fewshot`."""
    app()
