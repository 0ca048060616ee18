"""What a job depends on besides its files: settings and code. No rules here."""

from functools import cache

from fewshot import job_code
from fewshot.provenance import pretrained_hash, raw_hash
from fewshot.tracking import experiment_name, public_uri


@cache
def hash_of_raw():
    return raw_hash(PLAN.config.dataset, PLAN.store_dir)


@in_one_line
def raw_state(wildcards):
    """What tells a replaced archive or a changed folder from the one before; none for drawn images."""
    return hash_of_raw()


def store_settings(wildcards):
    return PLAN.config.dataset.identity()


def network_settings(wildcards):
    return network_job(wildcards).settings.identity()


@cache
def hash_of_weights(network):
    return pretrained_hash(PLAN.config.stage1.networks[network])


def weights_hash(wildcards):
    """What tells a replaced file of pretrained weights from the one before; none where there is no such file."""
    return hash_of_weights(network_job(wildcards).name)


def adaptation_settings(wildcards):
    return adaptation_job(wildcards).settings.identity()


def vector_settings(wildcards):
    return PLAN.config.class_vectors.as_dict()


def map_settings(wildcards):
    return {**PLAN.config.activation_maps.as_dict(), "part": PLAN.config.evaluation.part}


def run_settings(wildcards):
    """All that may show in the tables: not where the archives lay, nor which device was asked for."""
    settings = this_run(wildcards).config.as_dict()
    return {**settings, "device": None, "dataset": store_settings(wildcards)}


def training_code(wildcards):
    return job_code.training(network_job(wildcards).settings)


def extraction_code(wildcards):
    job = network_job(wildcards)
    return job_code.extraction(job.settings, PLAN.feature_part(job, wildcards.part).views)


def adaptation_code(wildcards):
    return job_code.adaptation(adaptation_job(wildcards))


def extension_code(wildcards):
    return job_code.extension(adaptation_job(wildcards))
