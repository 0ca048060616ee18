"""Names of methods, backbones and stages."""

from typing import Any

import pytest

from fewshot.config import ImplantingSettings, NetworkSettings
from fewshot.report import papers
from fewshot.report.papers import (
    backbone_name,
    method_name,
    stage1_name,
    stage2_name,
    usual_pooling,
)


def network(
    backbone: dict[str, Any] | None = None, classifier: dict[str, Any] | None = None, **training: Any
) -> NetworkSettings:
    data = {"backbone": {"name": "resnet12", **(backbone or {})}, "classifier": classifier or {}, "training": training}
    return NetworkSettings.model_validate(data)


@pytest.mark.parametrize(
    ("settings", "adaptation", "names"),
    [
        (network(), None, ("GAP", "resnet12", "gap", "as-trained", "gap/gap")),
        (
            network({"wide": 16}, {"pooling": "dense"}),
            None,
            ("DC + WIDE", "resnet12-wide", "dense", "as-trained", "gap/dense"),
        ),
        (network(classifier={"pooling": "dense"}), {}, ("DC + IMP", "resnet12", "dense", "implanting", "gap/dense")),
        (
            network(classifier={"pooling": "dense"}),
            {"support_pooling": "gmp", "query_pooling": "dense"},
            ("DC + IMP", "resnet12", "dense", "implanting gmp/dense", "gap/dense"),
        ),
        (network(classifier={"pooling": "gmp"}), None, ("GMP", "resnet12", "gmp", "as-trained", "gmp/gmp")),
        (network(classifier={"pooling": "flatten"}), None, ("FLAT", "resnet12", "flatten", "as-trained", "flatten/flatten")),
        (network(classifier={"kind": "linear"}), None, ("GAP (linear)", "resnet12", "gap-linear", "as-trained", "gap/gap")),
    ],
)
def test_names(settings: NetworkSettings, adaptation: dict[str, str] | None, names: tuple[str, ...]) -> None:
    stage2 = None if adaptation is None else ImplantingSettings.model_validate({"method": "implanting", **adaptation})
    found = (method_name(settings, stage2), backbone_name(settings), stage1_name(settings), stage2_name(stage2))
    assert (*found, usual_pooling(settings)) == names


def test_a_distance_that_no_paper_has_goes_by_its_own_name(monkeypatch):
    monkeypatch.setattr(papers, "DISTANCES", {})
    episodic = {"kind": "episodic", "distance": {"name": "cosine"}}
    settings = network(classifier={"kind": "none"}, objective=episodic)
    assert method_name(settings, None) == "ProtoNet (cosine)"
