"""The pretended CUDA device: it refuses what a device refuses, takes what a device takes, and counts the waiting."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot.device import to_device
from tests.unit.pretended_cuda import CUDA, PretendedCuda

MIXED = {
    "a sum": lambda x: x + torch.ones(3),
    "a sum in place": lambda x: x.add_(torch.ones(3)),
    "a sum into the host": lambda x: torch.add(x, x, out=torch.empty(3)),
    "a product": lambda x: x @ torch.ones(3),
    "a concatenation": lambda x: torch.cat([x, torch.ones(3)]),
    "scalars stacked": lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
    "an index of the device": lambda x: torch.ones(3)[torch.zeros(2, dtype=torch.long, device="cuda")],
    "values of the host put in": lambda x: x.index_put_((torch.arange(3).cuda(),), torch.ones(3)),
    "a choice": lambda x: torch.where(x > 0, x, torch.ones(3)),
    "a generator of the host": lambda x: torch.rand(3, device="cuda", generator=torch.Generator()),
    "a generator of the host, in place": lambda x: x.uniform_(generator=torch.Generator()),
    "a layer of the host": nn.Linear(3, 2),
    "a loss": lambda x: F.cross_entropy(torch.ones(3, 4), (x > 1).long()),
    "a gradient of the host": lambda x: x.requires_grad_().square().backward(torch.ones(3)),
    "an optimizer's state of the host": lambda x: torch._foreach_add_([x], [torch.ones(3)]),
    "a fused optimizer on a gradient of another layout": lambda x: torch._fused_sgd_(
        [x.expand(2, 3).clone()],
        [x.expand(2, 3).T.clone().T],
        [x.expand(2, 3).clone()],
        lr=0.1,
        momentum=0.9,
        weight_decay=0.0,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    ),
    "pinned already": lambda x: x.pin_memory(),
}


@pytest.mark.parametrize("what", MIXED)
def test_the_pretended_device_refuses_what_mixes(what):
    with PretendedCuda(), pytest.raises(RuntimeError, match=r"device|pinned"):
        MIXED[what](torch.ones(3, device="cuda"))


@pytest.mark.parametrize("function", [lambda x: x.numpy(), np.asarray])
def test_numpy_of_the_pretended_device_is_refused(function):
    with PretendedCuda(), pytest.raises(TypeError, match="numpy"):
        function(torch.ones(3, device="cuda"))


def test_what_a_device_takes_the_pretended_one_takes_and_keeps():
    with PretendedCuda() as gpu:
        x = torch.arange(6.0, device="cuda").view(2, 3)
        layer = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).to("cuda", memory_format=torch.channels_last)
        copied = deepcopy(layer)
        images = torch.rand(2, 3, 2, 2).cuda().requires_grad_()
        copied(images).sum().backward()
        made = [
            x[0], x.T, x + torch.tensor(1.0), x * 2, torch.zeros_like(x), torch.stack([x, x]), x[torch.tensor([0])],
            images.grad, nn.Parameter(x), *layer.state_dict().values(), *copied.parameters(),
            *(parameter.grad for parameter in copied.parameters()),
        ]  # fmt: skip
        assert {tensor.device for tensor in made} == {CUDA}
        assert all(tensor.is_cuda for tensor in made)
        assert x.cpu().device == torch.zeros_like(x, device="cpu").device == torch.device("cpu")
        assert (x.cpu() + torch.ones(3)).tolist() == [[1, 2, 3], [4, 5, 6]]
        host = torch.ones(3)
        host.to(CUDA).zero_()
        assert host.sum() == 3, "the host's own values stay"
        assert gpu.calls["aten::mul"] == 1
    assert x.device.type == "cpu", "outside it is what it is"


WAITING = {
    "item": (lambda x: x.sum().item(), "_local_scalar_dense"),
    "float": (lambda x: float(x.sum()), "_local_scalar_dense"),
    "if": (lambda x: bool((x > 0).all()), "_local_scalar_dense"),
    "tolist": (lambda x: x.tolist(), "tolist"),
    "cpu": (lambda x: x.cpu(), "to the host"),
    "a copy to the host": (lambda x: torch.empty(3).copy_(x), "copy between"),
    "to": (lambda x: torch.ones(3).to(x.device), "to the device"),
    "to, not pinned": (lambda x: torch.ones(3).to(x.device, non_blocking=True), "to the device"),
    "a mask": (lambda x: x[x > 0], "mask"),
    "nonzero": (lambda x: x.nonzero(), "nonzero"),
    "unique": (lambda x: x.unique(), "unique"),
    "an index of the host": (lambda x: x[torch.tensor([1, 2])], "index of the host"),
    "numbers": (lambda x: torch.tensor([1.0], device=x.device), "host's values"),
    "repeats of the device": (lambda x: x.repeat_interleave(x.long()), "repeat_interleave"),
}


@pytest.mark.parametrize("what", WAITING)
def test_waiting_for_the_pretended_device_is_counted(what):
    function, words = WAITING[what]
    with PretendedCuda() as gpu:
        x = torch.ones(3, device="cuda")
        assert gpu.waits == []
        function(x)
        assert len(gpu.waits) == 1
        assert words in gpu.waits[0][0]
        assert gpu.waits[0][1].startswith("test_pretended_cuda.py:")


def test_what_does_not_wait_is_not_counted():
    with PretendedCuda() as gpu:
        x = torch.ones(4, device="cuda")
        x[torch.arange(2, device="cuda")] = 2.0
        x[1] = x.sum()
        torch.where(x > 0, x, 0.0).repeat_interleave(2).topk(2)
        there = to_device(torch.ones(2), CUDA)
        assert there.device == CUDA
        assert gpu.waits == []
    assert to_device(x, torch.device("cpu")) is x
