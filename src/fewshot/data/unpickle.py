"""Reading the pickles of CIFAR's archives and of the mini-imagenet-cache files: plain containers and numpy arrays, no more.

A pickle is a program. This reader lets it build dicts, lists, strings, numbers and arrays, and refuses every other name. It is
Python's own, not the one in C: that one sets aside memory for any number a damaged pickle names, and lets numpy rebuild arrays
from whatever it is given.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fewshot.errors import DataError

Array = npt.NDArray[Any]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """The only use of `_codecs.encode` in a pickle: bytes written as text under protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoding {encoding!r}")
    return text.encode("latin1")


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """`bytes` as pickles call it: empty, or from text; never from a number, which would be a size."""
    return _encode(text, encoding)


def _bytearray(text: str | bytes = b"", encoding: str = "latin1") -> bytearray:
    return bytearray(text if isinstance(text, bytes) else _encode(text, encoding))


class _ArrayName:
    """Stands for `numpy.ndarray`, which a pickle names and never calls."""

    def __new__(cls, *arguments: object) -> _ArrayName:
        raise pickle.UnpicklingError("a call of numpy.ndarray")


def _reconstruct(kind: type, shape: object, code: object) -> Array:
    """The empty array that a state is to be set to."""
    return np.empty(0, np.int8)


def _dtype(code: str | bytes, *options: object) -> np.dtype[Any]:
    """Numbers, truth values and text of fixed length; no objects and no fields."""
    name = code.decode("ascii") if isinstance(code, bytes) else code
    if not re.fullmatch(r"[<>|=]?([biufc]\d{1,2}|b|\?|[SU]\d{1,9})", name):
        raise pickle.UnpicklingError(f"an array of {name[:50]!r}")
    return np.dtype(name, False, True)  # a copy: its state may be set


def _frombuffer(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> Array:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


ALLOWED: Mapping[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): _ArrayName,
    ("numpy", "dtype"): _dtype,
    **{
        (module, name): value
        for module in ("builtins", "__builtin__")
        for name, value in {"set": set, "frozenset": frozenset, "bytes": _bytes, "bytearray": _bytearray}.items()
    },
    **{
        (f"numpy.{core}.{module}", name): value
        for core in ("core", "_core")
        for module, name, value in (("multiarray", "_reconstruct", _reconstruct), ("numeric", "_frombuffer", _frombuffer))
    },
}
"""(module, name) -> what stands for it."""


class _Unpickler(pickle._Unpickler):
    """Knows the names in ALLOWED and no other, and sets the state of arrays alone, from checked parts."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[object], None]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def load_build(self) -> None:
        """Opcode BUILD: a state for the object below it on the stack."""
        state = self.stack.pop()
        thing = self.stack[-1]
        if type(thing) is np.ndarray:
            thing.__setstate__(_array_state(state))
        elif isinstance(thing, np.dtype):
            thing.__setstate__(_dtype_state(thing, state))  # type: ignore[attr-defined]
        else:
            raise pickle.UnpicklingError(f"a state for {type(thing).__name__}")

    def load_bytearray8(self) -> None:
        """Opcode BYTEARRAY8, without setting memory aside for what is not there."""
        (size,) = struct.unpack("<Q", self.read(8))
        data = self.read(size)
        if len(data) != size:
            raise EOFError("cut off")
        self.append(bytearray(data))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def _dtype_state(dtype: np.dtype[Any], state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of numpy's description the byte order, and nothing that could make it another type."""
    order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
    if order not in ("<", ">", "|", "="):
        raise pickle.UnpicklingError("a dtype of no known byte order")
    return 3, order, None, None, None, *((dtype.itemsize, dtype.alignment) if dtype.kind in "SU" else (-1, -1)), 0


def _array_state(state: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numpy's description of an array (version, shape, dtype, Fortran order, bytes), checked to fit together."""
    _, shape, dtype, fortran, data = state
    if not (isinstance(dtype, np.dtype) and all(type(side) is int and 0 <= side < 2**48 for side in shape)):
        raise pickle.UnpicklingError("an array of no known form")
    data = data if isinstance(data, bytes) else _encode(data)
    if len(shape) > 32 or math.prod(shape) * dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"{len(data)} bytes for an array of {shape}")
    return 1, tuple(shape), dtype, bool(fortran), data


class _RefusedError(Exception):
    """A pickle asks for a name that is not allowed."""


def load_restricted(stream: IO[bytes], name: str) -> Any:
    """Load a pickle that may hold only containers, strings, numbers and numpy arrays.

    Strings that Python 2 wrote come back as bytes.

    Args:
        stream: the pickle.
        name: what to call it in errors.

    Raises:
        DataError: it asks for anything else, or is damaged.
    """
    try:
        return _Unpickler(stream, encoding="bytes").load()
    except _RefusedError as refused:
        raise DataError(
            f"{name}: the pickle asks for {refused}, which a data file never needs; refused, get the file from its publisher"
        ) from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a whole pickle ({reason[:200]}); get the file again") from None
