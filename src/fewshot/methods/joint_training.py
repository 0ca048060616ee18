"""Joint training (stage 2): a network for base and novel classes at once, from where stage 1 started.

The baseline AllClassJoint of H. Qi, M. Brown, D. G. Lowe. Low-Shot Learning with Imprinted Weights. CVPR 2018
(arXiv 1712.07136), section 6.1.2: no separate low-shot phase, and no normalisation of embeddings or weights. With a cosine
classifier in place of the linear one the comparison with imprinting is of the phases alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fewshot.config import JointTrainingSettings
from fewshot.finetuning import Finetuning
from fewshot.methods.base import Curve, Extend, Ground, Task
from fewshot.models.network import Network


def prepare(ground: Ground, settings: JointTrainingSettings) -> Extend:
    """The method of a job, as stage 2 calls it: see `fewshot.extension`."""
    return _JointTraining(ground, settings)


class _JointTraining:
    def __init__(self, ground: Ground, settings: JointTrainingSettings) -> None:
        self.ground, self.settings = ground, settings
        self.training = Finetuning(ground, settings.finetuning)

    def __call__(self, task: Task, state: Path) -> tuple[npt.NDArray[np.int32], Curve]:
        """See `fewshot.methods.base.Extend`."""
        store = self.ground.store
        torch.manual_seed(self.ground.seed)  # the backbone starts as that of stage 1 did
        settings = self.ground.network.settings.model_copy(update={"classifier": self.settings.classifier})
        network = Network(settings, store.num_base + task.way, store.image_size, store.mean, store.std)
        network.load_pretrained()
        return self.training(network.to(self.ground.network.mean.device), task, state, new_embedding=True)
