"""Which jobs an edit makes anew."""

import subprocess
import sys

import pytest

from fewshot import job_code, provenance
from fewshot.config import parse
from fewshot.plan import Plan

NETWORKS = {
    "small": {"backbone": {"name": "c128f"}, "embedding": 6},
    "base": {"backbone": {"name": "resnet12"}},
    "wide": {
        "backbone": {"name": "resnet12"},
        "classifier": {"kind": "none"},
        "training": {"objective": {"kind": "episodic"}},
    },
}
TESTS = {
    "trained": {"tests": [{"networks": ["small", "base", "wide"]}]},
    "implants": {"shots": [5], "tests": [{"networks": ["base"], "adaptation": "implants"}]},
    "imprinted": {
        "way": "all",
        "queries": "all",
        "tests": [{"networks": ["small"], "adaptation": "imprinted", "populations": ["all"]}],
    },
}
MAPPED = {"method": "activation_to_parameter"}
STAGE2 = {
    "implants": {"method": "implanting"},
    "imprinted": {"method": "imprinting"},
    "mapped": MAPPED,
    "mapped-views": {**MAPPED, "views": 2},
}
TESTS |= {name: {"tests": [{"networks": ["small"], "adaptation": name}]} for name in ("mapped", "mapped-views")}


TRAINED = {"train small", "train base", "train wide"}
EXTRACTED = {"extract small", "extract base", "extract wide", "extract small, views"}
EXTENDED = {"extend", "map", "map, views"}


def plan(tested: str = "trained", dataset: str = "glyphs") -> Plan:
    held_out = {"held_out": 0.25} if dataset == "glyphs" else {}
    return Plan(
        parse(
            {
                "run": "code",
                "dataset": {"name": dataset} | held_out,
                "stage1": {"networks": NETWORKS},
                "stage2": {tested: STAGE2[tested]} if tested in STAGE2 else {},
                "evaluation": TESTS[tested],
            }
        )
    )


def jobs() -> dict[str, str]:
    """Job -> hash of its code."""
    datasets = {name: plan(dataset=name).config.dataset for name in ("glyphs", "cub", "fc100", "cifar_fs")}
    return {
        **{f"prepare {name}": job_code.preparation(settings) for name, settings in datasets.items()},
        "episodes": job_code.episodes(),
        **{f"train {job.name}": job_code.training(job.settings) for job in plan().networks},
        **{f"extract {job.name}": job_code.extraction(job.settings) for job in plan().networks},
        "extract small, views": job_code.extraction(plan().network("small", 0).settings, 2),
        "adapt": job_code.adaptation(plan("implants").adaptations[0]),
        "extend": job_code.extension(plan("imprinted").adaptations[0]),
        "map": job_code.extension(plan("mapped").adaptations[0]),
        "map, views": job_code.extension(plan("mapped-views").adaptations[0]),
        "evaluate": job_code.evaluation(),
        "plots": job_code.figures("plots"),
        "page": job_code.pages("page"),
        "track": job_code.tracking(),
    }


@pytest.mark.parametrize(
    ("edited", "anew"),
    [
        ("data.sources.cub", {"prepare cub"}),
        ("data.sources.cifar100", {"prepare fc100", "prepare cifar_fs"}),
        ("models.backbones.convnet", {"train small", "extract small", "extract small, views", *EXTENDED}),
        # Implants go beside its last block.
        ("models.backbones.resnet12", {"train wide", "train base", "extract wide", "extract base", "adapt"}),
        ("objectives.prototypical", {"train wide"}),
        ("methods.implanting", {"adapt"}),
        ("methods.taskwise", {"adapt"}),
        ("methods.imprinting", {"extend"}),
        ("methods.joint_training", set()),
        ("nearest_prototype", {"evaluate"}),  # judging networks is no reason to train them anew
        ("base_training", {"train small", "train base", "train wide"}),
        ("training", {"train small", "train base", "train wide", "extend"}),  # fine-tuning trains
        ("features", {*EXTRACTED, *EXTENDED, "evaluate"}),
        ("views", {"extract small, views", "map, views", "extend"}),  # imprinting may take views
        ("data.augment", {*TRAINED, "extract small, views", "map, views", "extend"}),
        ("models.inference", {*EXTRACTED, *EXTENDED, "adapt", "evaluate"}),
        ("methods.activation_to_parameter", {"map", "map, views"}),
        ("report.plots", {"plots", "page"}),
        ("report.page", {"page"}),
        ("tracking", {"track"}),
        ("stages", set()),
        ("plan", set()),
        ("job_code", set()),
    ],
)
def test_an_edit_makes_anew_what_depends_on_it_and_no_more(monkeypatch, edited, anew):
    before, parsed = jobs(), provenance._parsed

    def with_an_edit(name):
        text, imported = parsed(name)
        return (text + " edited" if name == f"fewshot.{edited}" else text), imported

    monkeypatch.setattr(provenance, "_parsed", with_an_edit)
    after = jobs()
    assert {name for name in before if before[name] != after[name]} == anew


WITHOUT_NETWORK = ("report.assembly", "report.plots", "report.page", "tracking", "records", "data.prepare", "episodes")


@pytest.mark.parametrize("module", WITHOUT_NETWORK)
def test_a_job_that_computes_with_no_network_does_not_load_pytorch(module):
    code = f"import sys, fewshot.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
