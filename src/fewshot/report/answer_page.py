"""The answer for one's own images as files: predictions.csv, and a page that shows every query beside its nearest support."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot.classification import SHOWN, Answer
from fewshot.files import atomic
from fewshot.report.assembly import write_csv
from fewshot.report.pages import data_uri, render

LIKELY = 3
"""Classes whose probability is drawn."""


def write_answer(answer: Answer, out: Path) -> None:
    """Write predictions.csv and index.html, which needs no other file.

    Args:
        answer: of `fewshot.classification.classify`.
        out: folder, made if it is not there.
    """
    write_csv(out / "predictions.csv", answer.table)
    uris = [_picture(pixels) for pixels in answer.pictures]
    images = len(answer.support)
    page = render(
        "answer.html.j2",
        title=f"{len(answer.queries)} images among {len(answer.classes)} classes",
        how=answer.how,
        model=answer.model,
        scale=answer.scale,
        side=SHOWN,
        counts=answer.table["prediction"].value_counts().reindex(answer.classes, fill_value=0).to_dict(),
        support=[
            {"name": path.name, "label": answer.classes[label], "uri": uri}
            for path, label, uri in zip(answer.support, answer.labels, uris[:images], strict=True)
        ],
        queries=[_query(answer, number, uri) for number, uri in enumerate(uris[images:])],
        skipped=answer.skipped,
        table=data_uri((out / "predictions.csv").read_bytes(), "text/csv"),
    )
    with atomic(out / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _query(answer: Answer, number: int, uri: str) -> dict[str, Any]:
    likely = answer.probabilities[number]
    best = np.argsort(-likely, kind="stable")[:LIKELY]
    return {
        "name": answer.table["file"].iloc[number],
        "uri": uri,
        "map": None if answer.maps is None else _map(answer.maps[number]),
        "likely": [(answer.classes[i], float(likely[i])) for i in best],
        "nearest": answer.nearest[number].tolist(),
    }


def _picture(pixels: npt.NDArray[np.uint8]) -> str:
    """A square that the network saw."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=80)
    return data_uri(out.getvalue(), "image/jpeg")


def _map(values: npt.NDArray[np.float32]) -> str:
    """A map (h, w) of probabilities as a picture of as many pixels, which the browser smooths."""
    from matplotlib import colormaps

    out = io.BytesIO()
    Image.fromarray((colormaps["turbo"](values)[..., :3] * 255).astype(np.uint8)).save(out, "PNG")
    return data_uri(out.getvalue(), "image/png")
