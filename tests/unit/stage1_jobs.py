"""Jobs of stage 1 with other settings, for the tests of its training."""

import torch

from fewshot.config import NetworkSettings
from fewshot.plan import NetworkJob

CPU = torch.device("cpu")


def changed(job, **training):
    settings = job.settings.model_copy(update={"training": job.settings.training.model_copy(update=training)})
    return NetworkJob(job.name, job.key + "x", job.seed, settings)


def episodic(job, pooling="flatten", objective=None, **training):
    settings = job.settings.model_dump(exclude={"training"})
    given = job.settings.training.model_dump(exclude={"objective"})
    given |= {"objective": {"kind": "episodic", "way": 4, "shot": 1, "queries": 3, **(objective or {})}, **training}
    settings |= {"classifier": {"kind": "none", "pooling": pooling}, "training": given}
    made = NetworkSettings.model_validate(settings)
    return NetworkJob(job.name, job.key + "e", job.seed, made)
