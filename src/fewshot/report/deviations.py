"""What a setting does otherwise than its paper, in words: each paper's own module says it."""

from __future__ import annotations

from fewshot.config import ActivationMappingSettings, ImprintingSettings, JointTrainingSettings, NetworkSettings
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
        if facts.part != "test":
            found.append("tasks drawn from the validation classes instead of the test classes")
    return list(dict.fromkeys(text.removesuffix(".") for text in (*found, *facts.notes, *facts.config_deviations)))


def _of_the_paper(facts: Facts) -> list[str] | None:
    if isinstance(facts.adaptation, ActivationMappingSettings):
        return paper004.deviations(facts)
    if isinstance(facts.adaptation, ImprintingSettings | JointTrainingSettings):
        return paper001.deviations(facts)
    return paper000.deviations(facts) if facts.network.distance is None else paper002.deviations(facts)


def of_network(dataset: str, network: NetworkSettings) -> list[str]:
    """What differs in a network and its training, whatever is made of it: of paper 000, or 002 for those trained on tasks.

    Networks with an embedding layer are paper 001's, whose rows say it.
    """
    if network.embedding is not None:
        return []
    if network.distance is not None:
        tasks = paper002.PROTOCOLS.get(dataset)
        return [] if tasks is None else paper002.network_deviations(network, tasks)
    protocol = paper000.PROTOCOLS.get(dataset)
    return [] if protocol is None else paper000.network_deviations(network, protocol)
