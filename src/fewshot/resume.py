"""The resumable state of a training: what it holds, how it is written and taken up."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewshot.errors import DataError, of_the_machine, out_of_memory
from fewshot.files import read_sealed, write_sealed
from fewshot.models.network import Network

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a training state holds beside parameters: plain numbers, so that it loads without pickles.

    Attributes:
        iteration: iterations done.
        seconds: of work so far.
        best_iteration: of the best validation; of equals, the last.
        better_iteration: of the same accuracy's first: what patience counts from.
        best: its accuracy, percent.
        metrics: lines of metrics.jsonl so far.
    """

    iteration: int = 0
    seconds: float = 0.0
    best_iteration: int = -1
    better_iteration: int = -1
    best: float | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)


def copy_state(network: Network) -> dict[str, Tensor]:
    """The network's parameters and buffers of any shape, detached copies, by name."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


class State:
    """The resumable state of a training: a file beside the declared outputs, written atomically.

    Args:
        path: of the file.
        identity: hash of everything that determines the training; a state with another one is refused.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity

    def save(
        self,
        network: Network,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        best: dict[str, Tensor],
    ) -> None:
        """Write the state of a finished iteration; `best`: the state to be kept so far, as of it; see `copy_state`."""
        state = {
            "identity": self.identity, "network": network.state_dict(), "objective": objective.state_dict(),
            "optimizer": optimizer.state_dict(), "best": best, "progress": json.dumps(vars(progress)),
        }  # fmt: skip
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_sealed(self.path, buffer.getvalue())

    def load(
        self, network: Network, objective: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[Progress, dict[str, Tensor]]:
        """Take up a saved state, if there is one for this very training; else start from nothing.

        Returns:
            Progress, and the state to be kept so far (see `save`).

        Raises:
            DataError: the state is of another training, or damaged.
        """
        if not self.path.exists():
            return Progress(), {}
        try:
            state = torch.load(io.BytesIO(read_sealed(self.path)), map_location="cpu", weights_only=True)
            identity = state["identity"]
        except Exception as error:  # a damaged file fails in many ways inside torch.load
            if of_the_machine(error) or out_of_memory(error):
                raise
            raise DataError(
                f"{self.path}: training state damaged ({type(error).__name__}); delete it to start this training anew"
            ) from None
        if identity != self.identity:
            raise DataError(
                f"{self.path}: training state of other settings, data or code; delete it to start this training anew"
            )
        network.load_state_dict(state["network"])
        objective.load_state_dict(state["objective"])
        for group, own in zip(state["optimizer"]["param_groups"], optimizer.param_groups, strict=True):
            if "fused" in own:  # of this device, not of the one before
                group["fused"] = own["fused"]
        optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**json.loads(state["progress"]))
        logger.info("resumed at iteration %d", progress.iteration)
        return progress, state["best"]
