"""What a setting does otherwise than its paper, in words: each paper's own module says it."""

from __future__ import annotations

from fewshot.config import ActivationMappingSettings, ImprintingSettings, JointTrainingSettings
from fewshot.report import paper000, paper001, paper002, paper004
from fewshot.report.setting import Facts


def deviations(facts: Facts) -> list[str]:
    """What differs from the paper of the method, one sentence an entry.

    On data sets that the method's paper is not compared on, the store's and the config's sentences alone.
    """
    found: list[str] = []
    if facts.network.training.classes == "base+val":
        found.append("trained on base and validation classes: not like for like with networks trained on base classes alone")
    said = _of_the_paper(facts)
    if said is not None:
        found += said
        if facts.precision == "bfloat16":
            found.append("stage 1 in bfloat16; the paper names no precision")
        if facts.adapted_in == "bfloat16":
            found.append("stage 2 trains the network in bfloat16; the paper names no precision")
        if facts.part != "test":
            found.append("tasks drawn from the validation classes instead of the test classes")
    return list(dict.fromkeys(text.removesuffix(".") for text in (*found, *facts.notes, *facts.config_deviations)))


def _of_the_paper(facts: Facts) -> list[str] | None:
    if isinstance(facts.adaptation, ActivationMappingSettings):
        return paper004.deviations(facts)
    if isinstance(facts.adaptation, ImprintingSettings | JointTrainingSettings):
        return paper001.deviations(facts)
    return paper000.deviations(facts) if facts.network.distance is None else paper002.deviations(facts)
