"""Files that each job takes, and those that a run is asked for. No rules here."""

from fewshot import drawings
from fewshot.tracking import tracked_path
from fewshot.taken import adaptation_folder, evaluation_folder

STORE = ("images.npy", "labels.npy", "classes.csv", "images.csv", "meta.json")
NETWORK = ("model.safetensors", "model.json", "metrics.jsonl")
FEATURES = ("features.npy", "rows.npy", "features.json")
ADAPTED = ("features.npy", "adapt.json", "metrics.jsonl")
EXTENDED = ("predictions.npy", "adapt.json", "metrics.jsonl")
TABLES = ("summary.csv", "paired.csv", "seeds.csv", "metrics.json", "tables", "assembled")


def files(folder, names):
    return [str(folder / name) for name in names]


def split_file(wildcards):
    """The split file of a folder data set, where the run names one."""
    in_one_line(PLAN.check)(store=wildcards.store)
    dataset = PLAN.config.dataset
    return dataset.split if dataset.name == "folder" and dataset.split else []


def raw_files(wildcards):
    """The archives, or the folder, that the store is made from.

    Where the store is there, one that is missing is named all the same: Snakemake then takes the store as it is. Where the
    store is not, the job is planned in any case, and what is missing is said when the jobs are to start.
    """
    in_one_line(PLAN.check)(store=wildcards.store)
    made = (PLAN.store_dir / "meta.json").exists()
    return [ancient(str(path)) for path in PLAN.config.dataset.paths if made or path.exists()]


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


def weights_file(wildcards):
    """The file of pretrained weights, if the network starts from one; a missing one is treated as in `raw_files`."""
    job = network_job(wildcards)
    weights = job.settings.backbone.weights_file
    made = (PLAN.network_dir(job) / "model.json").exists()
    return [ancient(str(weights))] if weights is not None and (made or weights.exists()) else []


def tested_episodes(wildcards):
    return str(PLAN.episodes_path(adaptation_job(wildcards).episodes))


def feature_files(wildcards):
    return files(PLAN.features_dir(network_job(wildcards)), FEATURES)


def read_feature_files(wildcards):
    """The features that an extension of the classifier takes."""
    job = adaptation_job(wildcards)
    return [file for part in PLAN.parts_read(job) for file in files(PLAN.features_dir(job.network, part), FEATURES)]


def episode_files(wildcards):
    return [str(PLAN.episodes_path(PLAN.episodes(shot))) for shot in evaluation_job(wildcards).shots]


def adapted_files(wildcards):
    """What stage 2 made for one evaluation; nothing when the network is evaluated as trained."""
    wanted = evaluation_job(wildcards)
    jobs = [job for job in PLAN.adaptations if (job.network, job.name) == (wanted.network, wanted.adaptation)]
    names = {"features": ADAPTED, "classifier": EXTENDED}
    return [file for job in jobs for file in files(PLAN.adapted_dir(job), names[job.settings.gives])]


@in_one_line
def evaluations(wildcards):
    return [str(evaluation_folder(PLAN, job)) for job in this_run(wildcards).evaluations]


def all_network_files(wildcards):
    return [file for job in this_run(wildcards).networks for file in files(PLAN.network_dir(job), NETWORK[1:])]


@in_one_line
def all_adapted_files(wildcards):
    return [
        file for job in this_run(wildcards).adaptations for file in files(adaptation_folder(PLAN, job), ADAPTED[1:])
    ]


@in_one_line
def all_extended_files(wildcards):
    return [file for job in this_run(wildcards).adaptations for file in files(adaptation_folder(PLAN, job), EXTENDED)]


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


@in_one_line
def vector_network(wildcards):
    """The network whose class vectors are drawn, of the first seed."""
    wanted = this_run(wildcards).config.class_vectors
    if wanted is None:
        raise ConfigError(f"run {wildcards.run} draws no class vectors; its config has no class_vectors")
    return files(PLAN.network_dir(PLAN.network(wanted.network, PLAN.config.seeds[0])), NETWORK[:2])


def tables(wildcards):
    return files(PLAN.results, TABLES)


def figures(wildcards):
    named = drawings.figures(PLAN)
    drawn = files(PLAN.results / "figures", [f"{name}.{ending}" for name in named for ending in named[name]])
    return [*drawn, *map(str, drawings.marks(PLAN))]


@in_one_line
def tracked_adaptations(wildcards):
    network = network_job(wildcards)
    jobs = [job for job in PLAN.adaptations if job.network == network]
    return [file for job in jobs for file in files(adaptation_folder(PLAN, job), ADAPTED[1:])]


@in_one_line
def tracked_evaluations(wildcards):
    network = network_job(wildcards)
    return [str(evaluation_folder(PLAN, job)) for job in PLAN.evaluations if job.network == network]


# --- final targets -----------------------------------------------------------------------------------------------------


def results(wildcards):
    return [*tables(wildcards), *figures(wildcards), str(PLAN.results / "report.html")]


def tracked(wildcards):
    return [str(tracked_path(PLAN, job)) for job in PLAN.networks]


def everything(wildcards):
    return results(wildcards) + tracked(wildcards)
