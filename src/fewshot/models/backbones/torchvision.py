"""GoogLeNet (Inception v1), ResNet-18 and ResNet-50 as torchvision has them, with or without pretrained weights.

Szegedy et al., Going Deeper with Convolutions, 2015; He et al., Deep Residual Learning for Image Recognition, 2016. All but
the last pooling and the classifier; images are halved five times (224 px gives 7x7 locations, 84 px 3x3, 32 px 1x1).
"""

from __future__ import annotations

import urllib.error
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from fewshot.config import TorchvisionSettings
from fewshot.errors import DataError
from fewshot.provenance import require_weights

HEAD = ("avgpool", "dropout", "fc", "aux1", "aux2")
"""Members of torchvision's models that are not part of the feature map."""
STATISTICS = {
    "googlenet": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "resnet18": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "resnet50": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation by which the images of the pretrained weights are normalised; GoogLeNet's see -1 .. 1."""


class TorchvisionBackbone(nn.Module):
    """The layers of a torchvision model up to its last feature map, under torchvision's own names.

    x (B, 3, H, W) -> (B, d, h, w), h = H / 32 rounded up.
    """

    def __init__(self, settings: TorchvisionSettings) -> None:
        super().__init__()
        self.name, self.weights = settings.name, settings.weights
        options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if settings.name == "googlenet" else {}
        model = models.get_model(settings.name, weights=None, **options)
        self.layers = nn.Sequential(OrderedDict((name, layer) for name, layer in model.named_children() if name not in HEAD))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.layers(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def load_pretrained(self) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
        """Take the weights that the settings name, before training.

        Returns:
            Mean and deviation (0..1 scale) by which their images are normalised; None where there are no weights.

        Raises:
            DataError: the weights cannot be had or are not this model's.
        """
        if self.weights == "none":
            return None
        found = _imagenet(self.name) if self.weights == "imagenet" else _from_file(Path(self.weights))
        wanted = self.layers.state_dict()
        where = f"weights of {self.name} ({self.weights})"
        for name, tensor in wanted.items():
            if name.endswith("num_batches_tracked"):
                continue
            if name not in found:
                raise DataError(f"{where}: {name} is missing; bring a state dict of torchvision's {self.name}")
            if found[name].shape != tensor.shape:
                raise DataError(
                    f"{where}: {name} is {tuple(found[name].shape)}, this {self.name} has {tuple(tensor.shape)}; bring a state "
                    f"dict of torchvision's {self.name}"
                )
            tensor.copy_(found[name])
        return STATISTICS[self.name]


def _imagenet(name: str) -> Mapping[str, Tensor]:
    """torchvision's ImageNet-1k weights, version 1: from torch's cache, or fetched into it."""
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    file = weights.url.rpartition("/")[2]
    try:
        state: Mapping[str, Tensor] = torch.hub.load_state_dict_from_url(weights.url, check_hash=True, weights_only=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise DataError(
            f"ImageNet weights of {name} cannot be had ({' '.join(str(error).split())}); bring {weights.url}: put {file} into "
            f"{cache}, or set the backbone's `weights` to its path (`weights: none` starts at random)"
        ) from None
    return state


def _from_file(path: Path) -> Mapping[str, Tensor]:
    """A state dict: .safetensors, or what torch.save wrote, read without unpickling anything but tensors."""
    require_weights(path)
    try:
        state = load_file(str(path)) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except SafetensorError as error:
        raise DataError(f"{path}: not a readable .safetensors file ({error}); bring it again") from None
    except Exception as error:  # a foreign or damaged file fails in many ways inside torch.load
        raise DataError(
            f"{path}: not a file of plain tensors ({type(error).__name__}); bring a state dict by torch.save or safetensors"
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: not a state dict (name -> tensor); save model.state_dict() instead")
    return state


def build(settings: TorchvisionSettings) -> TorchvisionBackbone:
    """The network these settings describe, freshly initialised; its pretrained weights come with `load_pretrained`."""
    return TorchvisionBackbone(settings)
