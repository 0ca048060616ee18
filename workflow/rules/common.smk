"""Functions of the rules: the run's settings, its plan, and what each job takes. No rules here."""

from functools import cache, wraps
from pathlib import Path

from snakemake.exceptions import WorkflowError

from fewshot import config as run_config
from fewshot.errors import ConfigError
from fewshot.plan import Plan
from fewshot.provenance import ROOT, gpus_in_sight, source_hash
from fewshot.tracking import flag_path, public_uri, tracked_path
from fewshot.transfer import is_taken

STORE = ("images.npy", "labels.npy", "classes.csv", "images.csv", "meta.json")
NETWORK = ("model.safetensors", "model.json", "metrics.jsonl")
FEATURES = ("features.npy", "rows.npy", "features.json")
ADAPTED = ("features.npy", "adapt.json", "metrics.jsonl")
EXTENDED = ("predictions.npy", "adapt.json", "metrics.jsonl")
TABLES = ("summary.csv", "paired.csv", "seeds.csv", "metrics.json", "tables")
FIGURES = ("training_curves", "accuracy_by_shot", "published_vs_measured", "paired_gains")
DISTANCE_FIGURES = ("distance_histograms", "leak_sweep")
LOW_SHOT_FIGURES = ("finetuning_curves", "low_shot_accuracy", "embedding_size", "exemplars")
ARCHIVES = {
    "fc100": ("cifar-100-python.tar.gz",),
    "cifar_fs": ("cifar-100-python.tar.gz",),
    "cub": ("CUB_200_2011.tgz",),
    "omniglot": ("images_background.zip", "images_evaluation.zip"),
    "images": ("miniimagenet.tar",),
    "pickles": tuple(f"mini-imagenet-cache-{part}.pkl" for part in ("train", "val", "test")),
}
"""What lies in `dataset.raw`, by data set or, of miniImageNet, by layout; importing the sources would slow every start."""


def in_one_line(function):
    """A user's mistake ends the workflow with its one line."""

    @wraps(function)
    def checked(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            raise WorkflowError(str(error)) from None

    return checked


try:
    # What a run file extends is laid under it; the jobs get the whole, in the dictionary that Snakemake hands on.
    settings = run_config.read(*map(Path, workflow.configfiles), over=workflow.config_settings.config)
    config.clear()
    config.update(settings)
    PLAN = Plan(run_config.parse(config))
except ConfigError as error:
    raise WorkflowError(str(error)) from None


# --- jobs by wildcard --------------------------------------------------------------------------------------------------


@in_one_line
def network_job(wildcards):
    PLAN.check(store=wildcards.get("store"), run=wildcards.get("run"))
    job = PLAN.network(wildcards.get("network") or wildcards.network_name, int(wildcards.seed))
    if wildcards.get("network", job.key) != job.key or wildcards.get("network_name", job.name) != job.name:
        raise ConfigError(f"network {job.name} lies in {PLAN.network_dir(job)}; its results are under {job.name}")
    part = PLAN.config.evaluation.part
    if wildcards.get("part", part) != part:
        raise ConfigError(
            f"no features of part {wildcards.part!r} in run {PLAN.config.run}; its evaluation.part is {part}"
        )
    return job


@in_one_line
def episode_job(wildcards):
    PLAN.check(store=wildcards.store)
    return PLAN.episode_file(wildcards.episodes)


@in_one_line
def adaptation_job(wildcards):
    job = PLAN.adaptation(network_job(wildcards), wildcards.adaptation, wildcards.episodes)
    if (wildcards.adaptation, int(wildcards.tasks)) != (job.key, job.tasks):
        raise ConfigError(f"adaptation {job.name} of {job.network.name} lies in {PLAN.adapted_dir(job)}")
    return job


@in_one_line
def evaluation_job(wildcards):
    return PLAN.evaluation(network_job(wildcards), wildcards.adaptation)


@in_one_line
def this_run(wildcards):
    PLAN.check(run=wildcards.run)
    return PLAN


# --- files -------------------------------------------------------------------------------------------------------------


def files(folder, names):
    return [str(folder / name) for name in names]


def split_file(wildcards):
    """The split file of a folder data set, where the run names one."""
    in_one_line(PLAN.check)(store=wildcards.store)
    dataset = PLAN.config.dataset
    return dataset.split if dataset.name == "folder" and dataset.split else []


def raw_paths():
    """Where this run's data set comes from: archives, or a folder of images."""
    dataset = PLAN.config.dataset
    if dataset.name == "folder":
        return [Path(folder) for folder in (dataset.folder, dataset.test_folder) if folder]
    raw = Path(dataset.raw)
    names = ARCHIVES.get(getattr(dataset, "layout", dataset.name), ())
    unpacked = raw / "miniimagenet"
    if names == ARCHIVES["images"] and unpacked.is_dir() and not (raw / names[0]).exists():
        return [unpacked]
    return [raw / name for name in names]


def raw_files(wildcards):
    """The archives, or the folder, that the store is made from.

    Where the store is there, one that is missing is named all the same: Snakemake then takes the store as it is. Where the
    store is not, the job is planned in any case, and says itself what is missing and where to get it.
    """
    in_one_line(PLAN.check)(store=wildcards.store)
    made = (PLAN.store_dir / "meta.json").exists()
    return [ancient(str(path)) for path in raw_paths() if made or path.exists()]


def store_of_episodes(wildcards):
    episode_job(wildcards)
    return store_files(wildcards)


def store_meta(wildcards):
    return str(this_run(wildcards).store_dir / "meta.json")


def store_files(wildcards):
    in_one_line(PLAN.check)(store=wildcards.get("store"), run=wildcards.get("run"))
    return files(PLAN.store_dir, STORE)


def network_files(wildcards):
    return files(PLAN.network_dir(network_job(wildcards)), NETWORK)


def teacher_files(wildcards):
    """The network that this one learns from, if it does."""
    teacher = network_job(wildcards).teacher
    return files(PLAN.network_dir(teacher), NETWORK[:2]) if teacher else []


def unless_taken(function):
    """What results are made from; nothing when they were carried here from another machine (fewshot take)."""

    @wraps(function)
    def wanted(wildcards):
        if "episodes" in wildcards.keys():
            made = adaptation_job(wildcards)
            jobs = [job for job in PLAN.evaluations if (job.network, job.adaptation) == (made.network, made.name)]
        else:
            jobs = [evaluation_job(wildcards)]
        return [] if all(is_taken(PLAN, job) for job in jobs) else function(wildcards)

    return wanted


@unless_taken
def tested_store(wildcards):
    return store_files(wildcards)


@unless_taken
def tested_network(wildcards):
    return network_files(wildcards)


@unless_taken
def tested_episodes(wildcards):
    return str(PLAN.episodes_path(adaptation_job(wildcards).episodes))


@unless_taken
def feature_files(wildcards):
    return files(PLAN.features_dir(network_job(wildcards)), FEATURES)


@unless_taken
def episode_files(wildcards):
    return [str(PLAN.episodes_path(PLAN.episodes(shot))) for shot in evaluation_job(wildcards).shots]


@unless_taken
def adapted_files(wildcards):
    """What stage 2 made for one evaluation; nothing when the network is evaluated as trained."""
    wanted = evaluation_job(wildcards)
    jobs = [job for job in PLAN.adaptations if (job.network, job.name) == (wanted.network, wanted.adaptation)]
    names = {"features": ADAPTED, "classifier": EXTENDED}
    return [file for job in jobs for file in files(PLAN.adapted_dir(job), names[job.settings.gives])]


def evaluations(wildcards):
    return [str(PLAN.evaluation_dir(job)) for job in this_run(wildcards).evaluations]


def all_network_files(wildcards):
    return [file for job in this_run(wildcards).networks for file in files(PLAN.network_dir(job), NETWORK[1:])]


def all_adapted_files(wildcards):
    return [file for job in this_run(wildcards).adaptations for file in files(PLAN.adapted_dir(job), ADAPTED[1:])]


def all_extended_files(wildcards):
    return [file for job in this_run(wildcards).adaptations for file in files(PLAN.adapted_dir(job), EXTENDED)]


def all_episode_files(wildcards):
    return [str(PLAN.episodes_path(PLAN.episodes(shot))) for shot in this_run(wildcards).config.evaluation.shots]


def store_images(wildcards):
    return files(this_run(wildcards).store_dir, STORE)


@in_one_line
def mapped_networks(wildcards):
    """The two networks whose activation maps are drawn, of the first seed."""
    wanted = this_run(wildcards).config.activation_maps
    if wanted is None:
        raise ConfigError(f"run {wildcards.run} draws no activation maps; its config has no activation_maps")
    jobs = [PLAN.network(name, PLAN.config.seeds[0]) for name in wanted.networks]
    return [file for job in jobs for file in files(PLAN.network_dir(job), NETWORK[:2])]


def tables(wildcards):
    return files(PLAN.results, TABLES)


def figures(wildcards):
    names = [f"{name}.{ending}" for name in FIGURES for ending in ("svg", "csv")]
    if PLAN.config.activation_maps is not None:
        names += ["activation_maps.png", "activation_maps.csv"]
    if PLAN.config.evaluation.way == "all":
        names += [f"{name}.csv" for name in LOW_SHOT_FIGURES] + [f"{name}.svg" for name in LOW_SHOT_FIGURES[:-1]]
        names += ["exemplars.png"]
    if PLAN.config.class_vectors is not None:
        names += ["class_vectors.svg", "class_vectors.csv"]
    if PLAN.on_tasks:
        names += [f"{name}.{ending}" for name in DISTANCE_FIGURES for ending in ("svg", "csv")]
    return files(PLAN.results / "figures", names)


def tracked_adaptations(wildcards):
    network = network_job(wildcards)
    jobs = [job for job in PLAN.adaptations if job.network == network]
    return [file for job in jobs for file in files(PLAN.adapted_dir(job), ADAPTED[1:])]


def tracked_evaluations(wildcards):
    network = network_job(wildcards)
    return [str(PLAN.evaluation_dir(job)) for job in PLAN.evaluations if job.network == network]


# --- final targets -----------------------------------------------------------------------------------------------------


def results(wildcards):
    return [*tables(wildcards), *figures(wildcards), str(PLAN.results / "report.html")]


def tracked(wildcards):
    return [str(tracked_path(PLAN, job)) for job in PLAN.networks]


def everything(wildcards):
    return results(wildcards) + tracked(wildcards)


# --- what else a job depends on: its settings and its code -----------------------------------------------------------------


@cache
def stamps(path):
    """Name, size in bytes and time of change, in whole seconds, of a file or of every file under a folder."""
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [(str(file.relative_to(path.parent)), file.stat()) for file in paths if file.is_file()]
    return [(name, status.st_size, int(status.st_mtime)) for name, status in found]


def raw_stamps(wildcards):
    """What tells a replaced archive or a changed folder from the one before, without reading it; none for drawn images."""
    return run_config.content_hash([stamps(path) for path in raw_paths()]) if raw_paths() else None


def store_settings(wildcards):
    return PLAN.config.dataset.identity()


def network_settings(wildcards):
    return network_job(wildcards).settings.identity()


def adaptation_settings(wildcards):
    return adaptation_job(wildcards).settings.identity()


def evaluation_settings(wildcards):
    """Rows as text, and the scale that dense queries may override."""
    return {
        "rows": [str(setting) for setting in evaluation_job(wildcards).settings],
        "scale": PLAN.config.evaluation.scale,
    }


def vector_network(wildcards):
    wanted = this_run(wildcards).config.class_vectors
    if wanted is None:
        raise ConfigError(f"run {wildcards.run} draws no class vectors; its config has no class_vectors")
    return files(PLAN.network_dir(PLAN.network(wanted.network, PLAN.config.seeds[0])), NETWORK[:2])


def vector_settings(wildcards):
    return PLAN.config.class_vectors.as_dict()


def map_settings(wildcards):
    return {**PLAN.config.activation_maps.as_dict(), "part": PLAN.config.evaluation.part}


def run_settings(wildcards):
    """All that may show in the tables: not where the archives lay, nor which device was asked for."""
    settings = this_run(wildcards).config.as_dict()
    return {**settings, "device": None, "dataset": store_settings(wildcards)}


def others(package, chosen):
    """The modules that settings could name in place of the chosen one: their code is not this job's."""
    folder = ROOT.joinpath(*package.split("."))
    names = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", chosen}
    return [f"fewshot.{package}.{name}" for name in names]


def preparation_code():
    """The code that reads this run's data set, and the class lists of its split."""
    name = PLAN.config.dataset.name
    source = {"fc100": "cifar100", "cifar_fs": "cifar100"}.get(name, name)
    lists = [path.read_text() for path in sorted((ROOT / "data" / "splits").glob(f"{name}*"))]
    return run_config.content_hash([source_hash("fewshot.data.prepare", without=others("data.sources", source)), lists])


# `fewshot.stages`, which calls all of these, counts for nothing by itself: each hash names what its stage imports.


def training_code(wildcards):
    """The code of stage 1, of this network's backbone and objective alone.

    Validation on the way uses the evaluation's code, but a change there is no reason to train anew.
    """
    settings = network_job(wildcards).settings
    chosen = [settings.backbone.module, settings.training.objective.module]
    judges = [f"fewshot.{name}" for name in ("evaluation", "features", "nearest_prototype")]
    return source_hash("fewshot.training", "fewshot.checkpoint", "fewshot.device", *chosen, without=judges)


def extraction_code():
    return source_hash("fewshot.features", "fewshot.checkpoint", "fewshot.device")


def evaluation_code():
    """The code of the evaluation. What a stage-2 method does reaches it as that method's files."""
    used = [f"fewshot.{name}" for name in ("task_results", "features", "checkpoint", "device")]
    return source_hash(*used, without=others("methods", "prototypical"))


def adaptation_code(wildcards):
    """The code of the one method, and of the frame that applies it to tasks."""
    chosen = adaptation_job(wildcards).settings.method
    used = [f"fewshot.{name}" for name in ("adaptation", f"methods.{chosen}", "episodes", "checkpoint", "device")]
    return source_hash(*used, without=others("methods", chosen))


def extension_code(wildcards):
    """The code of the one method, of the frame that applies it to tasks, and of the network that it may train."""
    job = adaptation_job(wildcards)
    chosen, backbone = job.settings.method, job.network.settings.backbone.module
    used = [
        f"fewshot.{name}" for name in ("extension", f"methods.{chosen}", "features", "episodes", "checkpoint", "device")
    ]
    return source_hash(*used, backbone, without=others("methods", chosen))


def page_code(module):
    """The code of a page, its templates included."""
    templates = [path.read_text() for path in sorted((ROOT / "report" / "templates").iterdir())]
    return run_config.content_hash([source_hash(module), templates])


# --- resources ---------------------------------------------------------------------------------------------------------


def share_of_cores(jobs):
    """Threads of each of some jobs that may run side by side: one core each before two for any, and at most four."""
    return max(1, min(4, (workflow.resource_settings.cores or 4 * jobs) // max(jobs, 1)))


def growing(amount):
    """An amount that grows with every retry, so that a job killed for its memory or time gets more of it."""

    def at_attempt(wildcards, attempt):
        return amount * attempt

    return at_attempt


def gpus(wildcards):
    """1 for what may run on CUDA. Jobs that stay on a machine without such a device run side by side instead."""
    device = PLAN.config.device
    stays_without = workflow.local_exec and not gpus_in_sight()
    return 0 if device == "cpu" or (device == "auto" and stays_without) else 1
