"""The figure of paper 004's README: classes by their mean activations beside classes by their classifier's parameters.

Each side is a t-SNE of one vector a class (L. van der Maaten, G. Hinton, JMLR 2008); a class has the same colour and mark on
both. How alike the two sides are is said by a number too: the rank correlation of the cosines between classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.nn import functional as F

from fewshot import features
from fewshot.checkpoint import load_network
from fewshot.data.store import Store, open_store
from fewshot.data.trained_images import trained_on
from fewshot.device import select_device
from fewshot.errors import ConfigError
from fewshot.models.network import Network
from fewshot.plan import Plan
from fewshot.report import drawing
from fewshot.report.assembly import write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDES = {"activation": "mean activations", "parameter": "classifier parameters"}
Floats = npt.NDArray[np.float32]


def draw_class_vectors(plan: Plan) -> None:
    """Write results/<run>/figures/class_vectors.svg and .csv for the network that the config names (first seed).

    Raises:
        ConfigError: the config names none.
        DataError: the store or the network is missing or damaged.
    """
    settings = plan.config.class_vectors
    if settings is None:
        raise ConfigError(f"run {plan.config.run} names no network for class vectors; add class_vectors to its config")
    device = select_device(plan.config.device)
    store = open_store(plan.store_dir)
    job = plan.network(settings.network, plan.config.seeds[0])
    network, info = load_network(plan.network_dir(job), device, store.data_hash)
    activations, weights = mean_activations(network, store, settings.images_per_class), class_parameters(network)
    table = vector_table(activations, weights, list(info["classes"]), settings.seed)
    folder = plan.results / "figures"
    write_csv(folder / "class_vectors.csv", table)
    with drawing.style():
        title = (
            f"Classes by activations and by parameters, {settings.network} (run {plan.config.run}): "
            f"rank correlation of cosines {rank_correlation(activations, weights):.2f}"
        )
        drawing.save(draw(table, title), folder / "class_vectors.svg")


def mean_activations(network: Network, store: Store, images_per_class: int) -> Floats:
    """Mean activation of each class that the network was trained on, over its first images: (C, d)."""
    settings = network.settings
    rows, names = trained_on(store, settings.training)
    labels = store.labels[rows]
    means = []
    for label in range(len(names)):
        chosen = rows[labels == label][:images_per_class]
        values = features.compute(network, store.images, chosen, progress=False, pooling=settings.classifier.pooling)
        means.append(values.mean((0, 1)))
    return torch.stack(means).numpy()


def class_parameters(network: Network) -> Floats:
    """Weights of the classifier: (C, d)."""
    weight = network.classifier.weight
    assert weight is not None  # noqa: S101  the config refuses networks without a classifier
    return weight.detach().cpu().numpy()


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of the cosines between classes, over all pairs, of two sets of vectors (C, d)."""
    upper = np.triu_indices(len(first), k=1)
    cosines = [
        (F.normalize(torch.from_numpy(one), dim=1) @ F.normalize(torch.from_numpy(one), dim=1).T).numpy()[upper]
        for one in (first, second)
    ]
    return float(pd.Series(cosines[0]).corr(pd.Series(cosines[1]), method="spearman"))


def vector_table(activations: Floats, weights: Floats, names: list[str], seed: int) -> pd.DataFrame:
    """One row a side and class: side (activation, parameter), class, x, y."""
    from sklearn.manifold import TSNE

    parts = []
    for side, vectors in zip(SIDES, (activations, weights), strict=True):
        unit = F.normalize(torch.from_numpy(vectors), dim=1).numpy()
        perplexity = min(30.0, (len(unit) - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(unit)
        parts.append(pd.DataFrame({"side": side, "class": names, "x": places[:, 0], "y": places[:, 1]}))
    return pd.concat(parts, ignore_index=True)


def draw(table: pd.DataFrame, title: str) -> Figure:
    """Two panels; classes in the order of their angle on the left, so that neighbours there have neighbouring colours."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    left = table[table["side"] == "activation"]
    centred = left[["x", "y"]] - left[["x", "y"]].mean()
    order = left["class"].to_numpy()[np.argsort(np.arctan2(centred["y"], centred["x"]), kind="stable")].tolist()
    colours = dict(zip(order, sns.color_palette("husl", len(order)), strict=True))
    marks = {name: drawing.MARKERS[i % len(drawing.MARKERS)] for i, name in enumerate(order)}
    figure, axes = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
    for ax, (side, words) in zip(axes, SIDES.items(), strict=True):
        for _, point in table[table["side"] == side].iterrows():
            name = str(point["class"])
            ax.scatter(point["x"], point["y"], color=colours[name], marker=marks[name], s=36)
            place, label = (point["x"], point["y"]), drawing.class_words(name)
            ax.annotate(label, place, fontsize=5, xytext=(3, 3), textcoords="offset points", color="0.3")
        ax.set(title=words, xticks=[], yticks=[])
    figure.suptitle(title)
    return figure
