"""A CUDA device that is not there: tensors with real values on the CPU that say they are on `cuda:0`.

    with PretendedCuda() as gpu:
        x = torch.ones(3, device="cuda")     # or .to("cuda"), .cuda(), Module.to(...)
        x + torch.ones(3)                    # RuntimeError, as on a real device
        float(x.sum())                       # allowed, and counted: gpu.waits

So whole trainings and evaluations run through the code's CUDA paths on a machine without a GPU, with results that can be held
against those of the CPU. What it shows: operations that mix devices, generators of the wrong device, numpy on the device, and
every place where the host waits for the device. What it cannot show: kernels, precision, memory and speed of a real device.

Which tensors are "there" is told by their storage, so that views, parameters and gradients are where their data are. A mode of
torch functions answers for `.device`, moves tensors and makes new ones; a mode below autograd sees every operation, those of
the backward pass included, and refuses what a device would refuse.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")

SAME_ALWAYS = {"aten::cat", "aten::stack", "aten::_cat"}
"""Do not take a CPU scalar beside tensors of the device; what works element by element does."""
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
FUSED = {"aten::_fused_sgd_": 3, "aten::_fused_adam_": 4, "aten::_fused_adamw_": 4}
"""Optimizers whose kernels take parameters, gradients and states of one layout, and so many lists of them."""
COPIES = {"aten::copy_", "aten::copy"}
SIZED_BY_VALUES = {
    "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::_unique", "aten::unique_dim", "aten::unique_consecutive",
    "aten::bincount", "aten::histc", "aten::equal", "aten::_local_scalar_dense", "aten::repeat_interleave.Tensor",
    "aten::repeat_interleave.self_Tensor",
}  # fmt: skip
"""Operations that make the host wait: what they return has to be known there."""


class PretendedCuda:
    """See the module.

    Attributes:
        waits: every place where the host waited for the device: what for, and file:line of the project.
        calls: number of calls of each operation that touched the device.
        free, total, reserved, allocated: bytes, as `torch.cuda` tells them.
    """

    def __init__(self) -> None:
        self.waits: list[tuple[str, str]] = []
        self.calls: Counter[str] = Counter()
        self.free, self.total, self.reserved, self.allocated = 60 << 30, 80 << 30, 0, 0
        self._there: dict[int, StorageWeakRef] = {}
        self._pinned: dict[int, StorageWeakRef] = {}
        self._inside = False
        self._moving: bool | None = None

    def __enter__(self) -> PretendedCuda:
        self._stack = ExitStack()
        autocast = torch.autocast
        device = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda device=None: "pretended",
            "is_bf16_supported": lambda *_: True,
            "is_current_stream_capturing": lambda: False,
            "synchronize": lambda device=None: self._wait("synchronize"),
            "mem_get_info": lambda device=None: (self.free, self.total),
            "memory_reserved": lambda device=None: self.reserved,
            "memory_allocated": lambda device=None: self.allocated,
        }
        for name, function in device.items():
            self._stack.enter_context(mock.patch.object(torch.cuda, name, function))
        for check in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):  # by version
            if hasattr(torch.optim.Optimizer, check):  # it would ask the driver
                self._stack.enter_context(mock.patch.object(torch.optim.Optimizer, check))
        # The values are on the CPU, so that is where autocast has to act.
        self._stack.enter_context(
            mock.patch.object(
                torch, "autocast", lambda kind, *args, **more: autocast("cpu" if kind == "cuda" else kind, *args, **more)
            )
        )
        self._stack.enter_context(_kept_flags())
        self._stack.enter_context(_Operations(self))
        self._stack.enter_context(_Functions(self))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    # --- where tensors are ----------------------------------------------------------------------------------------------

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the device."""
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage()._cdata in self._there

    def _mark(self, values: Any, there: bool = True) -> None:
        for tensor in _tensors(values):
            with torch._C.DisableTorchFunction():
                storage = tensor.untyped_storage()
            if there:
                _remember(self._there, storage)
            else:
                self._there.pop(storage._cdata, None)

    def _wait(self, what: str) -> None:
        self.waits.append((what, _place()))

    # --- functions ------------------------------------------------------------------------------------------------------

    def call(self, function: Any, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """A torch function or method, as the code calls it."""
        answer = _ANSWERS.get(function)
        if answer is not None and isinstance(args[0], Tensor):
            return answer(self, *args, **more)
        touched = any(self.holds(tensor) for tensor in _tensors((args, more)))
        if more.get("device") is not None and function is not torch._C._nn._parse_to:
            return self._make(function, args, more)
        before, self._inside = self._inside, touched
        try:
            return function(*args, **more)
        finally:
            self._inside = before

    def _make(self, function: Any, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """A new tensor where the call says."""
        there = torch.device(more["device"]).type == "cuda"
        generator = more.get("generator")
        if generator is not None and (generator.device.type == "cuda") != there:
            raise RuntimeError(f"Expected a '{more['device']}' device type for generator but found '{generator.device}'")
        if there and function in (torch.tensor, torch.as_tensor, torch.asarray):
            self._wait("a new tensor of the host's values")
        made = function(*args, **{**more, "device": "cpu"})
        if any(_shared(made, tensor) for tensor in _tensors((args, more))):
            made = made.clone()
        self._mark(made, there)
        return made

    def _to(self, tensor: Tensor, *args: Any, **more: Any) -> Tensor:
        copy = more.pop("copy", False)
        if args and isinstance(args[0], Tensor):
            other = args[0]
            device, kind = (CUDA if self.holds(other) else CPU), other.dtype
            blocking, layout = not (args[1] if len(args) > 1 else more.get("non_blocking", False)), more.get("memory_format")
        else:
            if "cuda" in args or more.get("device") == "cuda":
                args, more = tuple(CUDA if one == "cuda" else one for one in args), {**more}
                more.update({"device": CUDA} if "device" in more else {})
            device, kind, waited, layout = torch._C._nn._parse_to(*args, **more)
            blocking = not waited
        there = self.holds(tensor)
        if device is None or (device.type == "cuda") == there:
            return tensor.to(kind or tensor.dtype, copy=copy, memory_format=layout or torch.preserve_format)
        if blocking or (not there and not self._is_pinned(tensor)) or there:
            self._wait("to the device" if not there else "to the host")
        self._moving, before = not there, self._moving
        try:
            return tensor.to(kind or tensor.dtype, copy=True, memory_format=layout or torch.preserve_format)
        finally:
            self._moving = before

    def _pin(self, tensor: Tensor) -> Tensor:
        if self.holds(tensor):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        pinned = tensor.clone()
        _remember(self._pinned, pinned.untyped_storage())
        return pinned

    def _is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._pinned

    def _refuse_numpy(self, tensor: Tensor, *args: Any, **more: Any) -> Any:
        if self.holds(tensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        return tensor.numpy(*args, **more) if not args else tensor.__array__(*args, **more)

    def _tolist(self, tensor: Tensor) -> Any:
        if self.holds(tensor):
            self._wait("tolist")
        return tensor.tolist()

    def _deepcopy(self, tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        before, self._moving = self._moving, self.holds(tensor)
        try:
            copied = tensor.__deepcopy__(memo)
        finally:
            self._moving = before
        self._mark(copied, self.holds(tensor))
        return copied

    # --- operations -----------------------------------------------------------------------------------------------------

    def operate(self, operation: Any, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        """An operation below autograd: refused where devices are mixed, else done, and its results are where they belong."""
        name = operation._schema.name
        tensors = list(_tensors((args, more)))
        there = [self.holds(tensor) for tensor in tensors]
        if any(there):
            self.calls[name] += 1
            self._check(name, operation._overloadname, args, more, tensors, there)
        known = {tensor.untyped_storage()._cdata for tensor in tensors}
        out = operation(*args, **more)
        on_device = any(there) or (not tensors and self._inside)
        if self._moving is not None:
            on_device = self._moving
        if on_device:
            self._mark([tensor for tensor in _tensors(out) if tensor.untyped_storage()._cdata not in known])
        return out

    def _check(
        self, name: str, form: str, args: tuple[Any, ...], more: dict[str, Any], tensors: list[Tensor], there: list[bool]
    ) -> None:
        for value in tree_leaves((args, more)):
            if isinstance(value, torch.Generator) and value.device.type != "cuda":
                raise RuntimeError(f"{name}: Expected a 'cuda' device type for generator but found '{value.device}'")
        if self._moving is not None:
            return
        if name in COPIES:
            if not all(there):
                pinned = not there[1] and self._is_pinned(tensors[1])
                asynchronous = bool(args[2]) if len(args) > 2 else bool(more.get("non_blocking", False))
                if not (asynchronous and pinned):
                    self._wait("copy between host and device")
            return
        if name in INDEXING:
            self._check_index(name, args)
            return
        if {name, f"{name}.{form}"} & SIZED_BY_VALUES:
            self._wait(name)
        if name in FUSED:
            self._check_layouts(args[0], args[1 : FUSED[name]])
        foreign = [t for t, on_device in zip(tensors, there, strict=True) if not on_device]
        if any(tensor.dim() > 0 or name in SAME_ALWAYS for tensor in foreign):
            raise RuntimeError(
                f"{name}: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
            )

    def _check_layouts(self, parameters: list[Tensor], others: tuple[list[Tensor], ...]) -> None:
        def layout(tensor: Tensor) -> tuple[Any, ...]:
            strides = [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
            return tensor.dtype, tensor.shape, strides

        for one, *beside in zip(parameters, *others, strict=True):
            if any(layout(other) != layout(one) for other in beside):
                raise RuntimeError("params, grads and states must have same dtype, device, and layout")

    def _check_index(self, name: str, args: tuple[Any, ...]) -> None:
        itself, indices, *values = args
        for index in (index for index in indices if index is not None):
            if self.holds(index) and not self.holds(itself):
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            if not self.holds(index):
                self._wait(f"{name} by an index of the host")
            elif index.dtype in (torch.bool, torch.uint8):
                self._wait(f"{name} by a mask")
        for value in values[:1]:
            if self.holds(value) != self.holds(itself) and value.dim() > 0:
                raise RuntimeError(f"{name}: expected all tensors to be on the same device")


_ANSWERS: dict[Any, Any] = {
    Tensor.device.__get__: lambda gpu, tensor: CUDA if gpu.holds(tensor) else tensor.device,
    Tensor.is_cuda.__get__: lambda gpu, tensor: gpu.holds(tensor),
    Tensor.is_cpu.__get__: lambda gpu, tensor: not gpu.holds(tensor),
    Tensor.get_device: lambda gpu, tensor: 0 if gpu.holds(tensor) else -1,
    Tensor.to: PretendedCuda._to,
    Tensor.cuda: lambda gpu, tensor, device=None, **more: gpu._to(tensor, CUDA, **more),
    Tensor.cpu: lambda gpu, tensor, **more: gpu._to(tensor, CPU, **more),
    Tensor.pin_memory: PretendedCuda._pin,
    Tensor.is_pinned: PretendedCuda._is_pinned,
    Tensor.numpy: PretendedCuda._refuse_numpy,
    Tensor.__array__: PretendedCuda._refuse_numpy,
    Tensor.tolist: PretendedCuda._tolist,
    Tensor.__deepcopy__: PretendedCuda._deepcopy,
}


class _Functions(TorchFunctionMode):
    def __init__(self, gpu: PretendedCuda) -> None:
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.gpu.call(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __init__(self, gpu: PretendedCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return self.gpu.operate(func, args, kwargs or {})


@contextmanager
def _kept_flags() -> Iterator[None]:
    """What `select_device` sets for the whole process, as it was."""
    benchmark, allowed = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    precision = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = benchmark, allowed
        torch.set_float32_matmul_precision(precision)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))


def _remember(known: dict[int, StorageWeakRef], storage: Any) -> None:
    """A storage by its address, which nothing else gets while it is referred to, be it weakly."""
    if len(known) % 4096 == 4095:
        for address in [address for address, reference in known.items() if reference.expired()]:
            del known[address]
    known.setdefault(storage._cdata, StorageWeakRef(storage))


def _shared(made: Any, tensor: Tensor) -> bool:
    return isinstance(made, Tensor) and made.untyped_storage()._cdata == tensor.untyped_storage()._cdata


def _place() -> str:
    """Innermost line of the project or of a test that led here."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if ("/fewshot/" in file or "/benchmarks/" in file or "/test_" in file) and "site-packages" not in file:
            return f"{file.rpartition('/fewshot/')[2].rpartition('/')[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"
