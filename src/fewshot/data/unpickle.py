"""Reading the pickles of CIFAR's archives and of the mini-imagenet-cache files: plain containers and numpy arrays, no more.

A pickle is a program. This reader lets it build dicts, lists, strings, numbers and arrays, and refuses every other name.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from fewshot.errors import DataError


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """The only use of `_codecs.encode` in a pickle: bytes written as text under protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"text encoding {encoding!r}")
    return text.encode("latin1")


def _numpy_functions() -> Mapping[str, Callable[..., Any]]:
    """numpy's own functions that rebuild an array, as this version's pickles name them."""
    array = np.zeros(1, dtype=np.uint8)
    reconstruct = array.__reduce__()[0]
    frombuffer = array.__reduce_ex__(5)[0]
    return {"_reconstruct": reconstruct, "_frombuffer": frombuffer}  # type: ignore[dict-item]


_NUMPY = _numpy_functions()
ALLOWED: Mapping[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (module, name): value
        for module in ("builtins", "__builtin__")
        for name, value in {
            "dict": dict,
            "list": list,
            "tuple": tuple,
            "set": set,
            "frozenset": frozenset,
            "bytes": bytes,
            "bytearray": bytearray,
            "str": str,
            "int": int,
            "float": float,
            "bool": bool,
        }.items()
    },
    **{
        (f"numpy.{core}.{module}", name): _NUMPY[name]
        for core in ("core", "_core")
        for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
    },
}
"""(module, name) -> what stands for it."""


class _Unpickler(pickle.Unpickler):
    """Knows the names in ALLOWED and no other."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None


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
