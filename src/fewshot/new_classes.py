"""Classes added to a trained network in one pass: imprinting (paper 001, section 4.2) for use, not for measurement."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from fewshot import provenance
from fewshot.checkpoint import load_network, save_network
from fewshot.data.loose import decoded, require_folder
from fewshot.data.sources.folder import beside, class_images, class_names, first_of
from fewshot.errors import ConfigError, DataError
from fewshot.features import compute
from fewshot.locks import replacing_folder
from fewshot.methods.imprinting import extended, imprint
from fewshot.models.heads import CosineClassifier
from fewshot.transfer import network_folder

logger = logging.getLogger(__name__)
AT_ONCE = 1024
"""Images in memory, at most."""
_WRITTEN_ANEW = ("format", "network", "sha256", "files")


def add_classes(model: Path, images: Path, out: Path, device: torch.device | str = "cpu") -> list[str]:
    """Write a network that knows the classes of a folder besides its own; its word on its own classes is as before.

    Args:
        model: folder of the trained network, or its archive as `fewshot pack` writes it.
        images: folder with one sub-folder of images a class.
        out: folder to write; must not be there.
        device: where to compute.

    Returns:
        Names of the new classes.

    Raises:
        ConfigError: the network's embeddings cannot be class weights.
        DataError: the model or an image cannot be read, a class has a name that the network has already, or `out` is there.
    """
    if out.exists():
        raise DataError(f"{out}: is there already; name another folder with --out")
    require_folder(images, "--images names the folder whose sub-folders are the new classes")
    with network_folder(model) as folder:
        network, info = load_network(folder, device)
    pooling, classifier = network.settings.classifier.pooling, network.classifier
    if not isinstance(classifier, CosineClassifier) or pooling not in ("gap", "gmp"):
        raise ConfigError(
            f"{model}: its embeddings do not fit its weights ({network.settings.classifier.kind} classifier of {pooling} "
            "features); imprinting needs one trained with kind: cosine and pooling: gap or gmp"
        )
    names, known = class_names(images), list(info["classes"])
    for name in names:
        if name in known:
            raise DataError(f"{images / name}: the network has a class {name!r} already; rename the folder, or leave it out")
    strays = [path.name for path in beside(images)]
    if strays:
        logger.warning("%s: not in a class folder, so left out: %s", images, first_of(strays))
    files = [(number, path) for number, name in enumerate(names) for path in class_images(images / name)]
    parts = []
    for start in range(0, len(files), AT_ONCE):
        some = [path for _, path in files[start : start + AT_ONCE]]
        _, (pictures,), broken = decoded(some, [info["image_size"]], strict=False)
        if broken:
            path, reason = broken[0]
            raise DataError(f"{path}: the image does not decode ({reason}); replace the file or remove it")
        parts.append(compute(network, pictures, pooling=pooling, to=network.mean.device, name=str(info.get("name", "")))[:, 0])
    embeddings = torch.cat(parts)
    classes = torch.tensor([number for number, _ in files], device=embeddings.device)
    network.classifier = extended(classifier, imprint(embeddings, classes, len(names)))
    counts = np.bincount(classes.cpu().numpy(), minlength=len(names)).tolist()
    with replacing_folder(out) as folder:
        told = {key: value for key, value in info.items() if key not in _WRITTEN_ANEW}
        added = [*info.get("imprinted", []), *({"class": name, "images": n} for name, n in zip(names, counts, strict=True))]
        save_network(
            network,
            folder,
            {
                "probe": None,  # of a network of an earlier version nothing is known
                **told, "classes": [*known, *names], "imprinted": added, "imprinted_on": info["sha256"],
                "git_revision": provenance.git_revision(), "versions": provenance.versions(),
            },
        )  # fmt: skip
    logger.info("%d classes from %d images; %d classes in all: %s", len(names), len(files), len(known) + len(names), out)
    return names
