"""Functions of the rules: the run's settings, its plan, its jobs by wildcard, and what a job may use. No rules here."""

from functools import wraps
from pathlib import Path

from snakemake.exceptions import WorkflowError

from fewshot import config as run_config
from fewshot.data import sources
from fewshot.errors import ConfigError, FewshotError
from fewshot.plan import Plan
from fewshot.provenance import gpus_in_sight, require_weights
from fewshot.report.published import load_published
from fewshot.taken import require_kept


def in_one_line(function):
    """A user's mistake ends the workflow with its one line."""

    @wraps(function)
    def checked(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except FewshotError as error:
            raise WorkflowError(str(error)) from None

    return checked


OVER = ["--config"] if workflow.config_settings.config else []

try:
    # What a run file extends is laid under it; the jobs get the whole, in the dictionary that Snakemake hands on.
    settings = run_config.read(*map(Path, workflow.configfiles), over=workflow.config_settings.config)
    config.clear()
    config.update(settings)
    PLAN = Plan(run_config.parse(config, " and ".join([*map(str, workflow.configfiles), *OVER])))
except ConfigError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    store="[^/]+",
    run="[^/]+",
    network="[^/]+",
    network_name="[^/]+",
    adaptation="[^/]+",
    episodes="[^/]+",
    part="[^/]+",
    seed="[0-9]+",
    settings="[0-9a-f]+",
    tasks="[0-9]+",


# --- jobs by wildcard --------------------------------------------------------------------------------------------------


@in_one_line
def network_job(wildcards):
    PLAN.check(store=wildcards.get("store"), run=wildcards.get("run"))
    job = PLAN.network(wildcards.get("network") or wildcards.network_name, int(wildcards.seed))
    if wildcards.get("network", job.key) != job.key or wildcards.get("network_name", job.name) != job.name:
        raise ConfigError(f"network {job.name} lies in {PLAN.network_dir(job)}; its results are under {job.name}")
    if "part" in wildcards.keys():
        PLAN.feature_part(job, wildcards.part)
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
    job = PLAN.evaluation(network_job(wildcards), wildcards.adaptation)
    if wildcards.settings != PLAN.settings_key(job):
        raise ConfigError(f"results of {job.network.name} with these settings lie in {PLAN.evaluation_dir(job)}")
    return job


@in_one_line
def this_run(wildcards):
    PLAN.check(run=wildcards.run)
    return PLAN


# --- before the first job ----------------------------------------------------------------------------------------------


@in_one_line
def require_before_start():
    """Refuse to start where a job would find, perhaps after hours, that something is missing. A plan alone (`--dry-run`) wants none.

    Archives of which the store is to be made; files of weights to start a training from; published numbers that can be read;
    and the networks of which results were carried here (`fewshot take`): where these are trained again, the results are of others than the run then has.
    """
    planned = list(workflow.dag.needrun_jobs())
    if any(job.rule.name == "prepare" for job in planned):
        sources.require(PLAN.config.dataset)
    trained = [network_job(job.wildcards) for job in planned if job.rule.name == "train"]
    for job in trained:
        require_weights(job.settings.backbone.weights_file)
    require_kept(PLAN, trained)
    if any(job.rule.name == "assemble" for job in planned):
        load_published()


# --- resources ---------------------------------------------------------------------------------------------------------


def share_of_cores(jobs):
    """Threads of each of some jobs that may run side by side: one core each before two for any, and at most four."""
    return max(1, min(4, (workflow.resource_settings.cores or 4 * jobs) // max(jobs, 1)))


def growing(amount, of_input=0):
    """An amount that grows with every retry, so that a job killed for its memory or time gets more of it.

    `of_input`: so many times the size of what the job takes (MB) comes on top, for what it holds in memory.
    """

    def at_attempt(wildcards, input, attempt):
        return int((amount + (of_input * input.size_mb if of_input else 0)) * attempt)

    return at_attempt


def gpus(wildcards):
    """1 for what may run on CUDA. Jobs that stay on a machine without such a device run side by side instead.

    A dry run does not tell the rules where its jobs would run, and counts as staying.
    """
    device = PLAN.config.device
    stays_without = workflow.local_exec and not gpus_in_sight()
    return 0 if device == "cpu" or (device == "auto" and stays_without) else 1
