"""Stage 1: the training of one network on base classes, from an image store to the network's folder.

The loop over iterations is `fewshot.training`; here is what it is given for a job, and what is written when it ends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fewshot import job_code, provenance
from fewshot.checkpoint import save_network
from fewshot.data.store import Store
from fewshot.data.trained_images import trained_on
from fewshot.device import multiplies_bfloat16
from fewshot.files import atomic
from fewshot.locks import state_path
from fewshot.models.backbones import parameter_count
from fewshot.models.network import Network
from fewshot.objectives import build_objective
from fewshot.plan import NetworkJob
from fewshot.resume import State
from fewshot.sampling import build_sampling
from fewshot.training import Trainer
from fewshot.validation import build_validation

logger = logging.getLogger(__name__)


def prepare(
    store: Store, job: NetworkJob, device: torch.device, state_path: Path, teacher: tuple[Network, str] | None = None
) -> Trainer:
    """The training of a job, as far as it has come: see `train`."""
    settings = job.settings.training
    torch.manual_seed(job.seed)
    rows, names = trained_on(store, settings)
    weights_hash = provenance.pretrained_hash(job.settings)  # once: the file may be another one when the training ends
    network = Network(job.settings, len(names), store.image_size, store.mean, store.std)
    network.load_pretrained()
    labels = torch.from_numpy(store.labels[rows])
    factor = settings.optimizer.head_factor
    return Trainer(
        network,
        build_objective(settings.objective, network, job.seed, teacher[0] if teacher else None),
        build_sampling(settings, torch.arange(len(rows)), labels, job.seed),
        torch.from_numpy(store.images[rows]).to(device),  # no others: the store of a large data set may not go onto a device
        labels.to(device),
        settings,
        name=job.name,
        seed=job.seed,
        state=State(state_path, training_identity(store, job, teacher[1] if teacher else None, weights_hash)),
        validate=build_validation(store, settings, job.seed) if settings.validation.every else None,
        factors={network.embedding: factor, network.classifier: factor},
        weights_hash=weights_hash,
    )


def train(
    store: Store,
    job: NetworkJob,
    folder: Path,
    device: torch.device,
    stop: Callable[[int], bool] = lambda iteration: False,
    teacher: tuple[Network, str] | None = None,
) -> None:
    """Train a network on the store's base images (without the held-out ones) and write its folder.

    Args:
        store: images and classes.
        job: name, settings and seed.
        folder: gets model.safetensors, model.json, metrics.jsonl when the training is complete; the resumable state lies
            beside it, as `<folder>.state`, until then.
        device: where to train.
        stop: asked after every iteration; True ends the call with the state saved and the folder untouched.
        teacher: the network of `job.teacher`, on `device`, and its hash; None without distillation.

    Raises:
        FewshotError: the loss, or a parameter, is not finite (names the iteration; the last good state stays).
        DataError: the state is damaged, or of another training; the images do not do for its validation.
    """
    trainer = prepare(store, job, device, state_path(folder), teacher)
    rows, names = trained_on(store, trainer.settings)
    logger.info(
        "training %s (seed %d) on %s: %d images of %d classes, %s, %d iterations of %d",
        job.name, job.seed, provenance.device_words(device), len(rows), len(names),
        trainer.precision, trainer.settings.iterations, trainer.batches.batch_size,
    )  # fmt: skip
    if trainer.bfloat16 and device.type == "cpu" and multiplies_bfloat16() is False:
        logger.warning("this CPU has no instructions for bfloat16: precision: float32 would be faster")
    if trainer.run(stop):
        write_outputs(store, job, trainer, folder, teacher[1] if teacher else None)
        trainer.state.path.unlink(missing_ok=True)


def training_identity(store: Store, job: NetworkJob, teacher: str | None, weights: str | None) -> str:
    """What a training is: settings, seed, data, code, and the hashes of the network it learns from and of its first weights."""
    return f"{job.key}/seed{job.seed}/{store.data_hash}/{job_code.training(job.settings)}/{teacher}/{weights}"


def write_outputs(store: Store, job: NetworkJob, trainer: Trainer, folder: Path, teacher: str | None = None) -> None:
    """metrics.jsonl, model.safetensors, model.json, in this order: a folder with model.json is complete."""
    settings, progress, network = trainer.settings, trainer.progress, trainer.network
    rows, names = trained_on(store, settings)
    keep = settings.validation.keep
    iteration = progress.best_iteration if keep == "best" else progress.iteration
    with atomic(folder / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in progress.metrics))
    save_network(
        network,
        folder,
        {
            "name": job.name, "seed": job.seed, "classes": names,
            "image_size": store.image_size, "data_hash": store.data_hash, "store": store.path.parent.name,
            "training_images": len(rows), "data_notes": list(store.meta.get("notes", [])),
            "teacher": {"name": job.teacher.name, "sha256": teacher} if job.teacher else None,
            "weights_sha256": trainer.weights_hash, "code": job_code.training(job.settings),
            "iteration": iteration, "iterations": settings.iterations, "done": progress.iteration, "kept": keep,
            "validation": _validation_at(iteration, progress.metrics),
            "parameters": parameter_count(network.backbone) + parameter_count(network.embedding),
            "feature_shape": list(network.feature_shape),
            "precision": trainer.precision,
            "device": provenance.device_words(trainer.device), "threads": torch.get_num_threads(),
            "seconds": round(progress.seconds, 1), "git_revision": provenance.git_revision(),
            "versions": provenance.versions(),
        },
    )  # fmt: skip


def _validation_at(iteration: int, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The validation of the state of an iteration, as metrics.jsonl has it; None where that state was not validated."""
    for line in metrics:
        if line["iteration"] == iteration and "validation_accuracy" in line:
            ci95 = line.get("validation_ci95")
            return {"accuracy": line["validation_accuracy"], "ci95": ci95, "iteration": iteration}
    return None
