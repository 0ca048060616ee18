"""Reading the pickles of CIFAR's archives and of the mini-imagenet-cache files: plain containers and numpy arrays, no more.

A pickle is a program. This reader lets it build dicts, lists, tuples, strings, numbers and arrays, and refuses every other
name. It is Python's own, not the one in C: that one sets aside memory for any number a damaged pickle names, and lets numpy
rebuild arrays from whatever it is given.

What a pickle may cost goes with its size: so many opcodes, so many bytes copied for each byte read, and keys of dicts that are
short and plain. Otherwise kilobytes could ask for years (hashing tuples of tuples) or gigabytes (one text made bytes again and
again).
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import IO, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fewshot.errors import DataError

Array = npt.NDArray[Any]

MOST_OPCODES = 2_000_000
"""Of one pickle. CIFAR-100's largest has half a million."""
MOST_COPIED = 4
"""Bytes handed to functions and array states for each byte read: text becomes bytes, and these an array."""
LONGEST_KEY = 1000
"""Characters of a dict's key."""


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


def _ordered(pairs: Sequence[Sequence[Any]] = ()) -> OrderedDict[Any, Any]:
    """An OrderedDict as Python 2 wrote it: from a list of pairs."""
    return OrderedDict((_key(key), value) for key, value in pairs)


def _key(key: object) -> object:
    """A key of a dict, which can be neither slow to hash nor slow to compare, nor fall together with others by design."""
    if key is None or (isinstance(key, str | bytes) and len(key) <= LONGEST_KEY):
        return key
    if isinstance(key, int) and abs(key) < 2**31:
        return key
    raise pickle.UnpicklingError(f"a key of type {type(key).__name__}, or too long a one")


class _ArrayName:
    """Stands for `numpy.ndarray`, which a pickle names and never calls."""

    def __new__(cls, *arguments: object) -> _ArrayName:
        raise pickle.UnpicklingError("a call of numpy.ndarray")


def _reconstruct(kind: type, shape: object, code: object) -> Array:
    """The empty array that a state is to be set to."""
    return np.empty(0, np.int8)


def _dtype(code: str | bytes, align: object = False, copy: object = True) -> np.dtype[Any]:
    """Numbers, truth values and text of fixed length; no objects and no fields."""
    name = code.decode("ascii") if isinstance(code, bytes) else code
    if not re.fullmatch(r"[<>|=]?([biufc]\d{1,2}|b|\?|[SU]\d{1,9})", name):
        raise pickle.UnpicklingError(f"an array of {name[:50]!r}")
    return np.dtype(name, False, True)  # a copy: its state may be set


def _frombuffer(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> Array:
    if not isinstance(dtype, np.dtype):
        raise pickle.UnpicklingError("an array of no known type")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


ALLOWED: Mapping[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered,
    ("numpy", "ndarray"): _ArrayName,
    ("numpy", "dtype"): _dtype,
    **{
        (module, name): value
        for module in ("builtins", "__builtin__")
        for name, value in {"bytes": _bytes, "bytearray": _bytearray}.items()
    },
    **{
        (f"numpy.{core}.{module}", name): value
        for core in ("core", "_core")
        for module, name, value in (("multiarray", "_reconstruct", _reconstruct), ("numeric", "_frombuffer", _frombuffer))
    },
}
"""(module, name) -> what stands for it."""


class _Measured:
    """A stream that counts the bytes read, and sets them against those that are copied."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._read, self._copied = stream, 0, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._read += len(data)
        return data

    def readline(self) -> bytes:
        data = self._stream.readline()
        self._read += len(data)
        return data

    def charge(self, value: object) -> None:
        """Count what is handed on: its bytes, or some for each of its items."""
        each = 1 if isinstance(value, str | bytes | bytearray) else 16
        self._copied += each * len(value) if isinstance(value, Sized) else 1
        if self._copied > MOST_COPIED * self._read:
            raise pickle.UnpicklingError("it copies its own parts again and again")


class _Counted(dict[int, Any]):
    """Opcode -> what it does, looked up so many times and no more."""

    left = MOST_OPCODES

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"more than {MOST_OPCODES:,} steps")
        return super().__getitem__(opcode)


class _Unpickler(pickle._Unpickler):
    """Knows the names in ALLOWED and no other, sets the state of arrays alone, from checked parts, and keeps count."""

    handlers: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, stream: IO[bytes]) -> None:
        self.measured = _Measured(stream)
        super().__init__(self.measured, encoding="bytes")
        self.dispatch = _Counted(self.handlers)  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def load_reduce(self) -> None:
        """Opcode REDUCE: a call, with the arguments on top of the stack."""
        arguments = self.stack.pop()
        if type(arguments) is not tuple or len(arguments) > 4:
            raise pickle.UnpicklingError("a call without arguments")
        for argument in arguments:
            self.measured.charge(argument)
        self.stack[-1] = self.stack[-1](*arguments)

    def load_build(self) -> None:
        """Opcode BUILD: a state for the object below it on the stack."""
        state = self.stack.pop()
        thing = self.stack[-1]
        if type(thing) is np.ndarray:
            self.measured.charge(state[4])
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

    def load_dict(self) -> None:
        """Opcode DICT: of the keys and values since the mark."""
        items = self.pop_mark()
        self.append({})
        self._fill(items)

    def load_setitem(self) -> None:
        """Opcode SETITEM: one key and its value, for the dict below them."""
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def load_setitems(self) -> None:
        """Opcode SETITEMS: the keys and values since the mark, for the dict below it."""
        self._fill(self.pop_mark())

    def _fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise pickle.UnpicklingError(f"keys for {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def load_append(self) -> None:
        """Opcode APPEND: one value, for the list below it."""
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        """Opcode APPENDS: the values since the mark, for the list below it."""
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise pickle.UnpicklingError(f"items for {type(target).__name__}")
        target.extend(items)

    def refuse(self) -> None:
        """Opcodes for sets, for objects of classes, and for what lies outside the pickle."""
        raise _RefusedError("a set, an object or something outside of it")

    handlers |= {
        pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build, pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.DICT[0]: load_dict, pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems,
        pickle.APPEND[0]: load_append, pickle.APPENDS[0]: load_appends,
        **dict.fromkeys((code[0] for code in (
            pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX,
            pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
        )), refuse),
    }  # fmt: skip


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
        return _Unpickler(stream).load()
    except _RefusedError as refused:
        raise DataError(
            f"{name}: the pickle asks for {refused}, which a data file never needs; refused, get the file from its publisher"
        ) from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a whole pickle ({reason[:200]}); get the file again") from None
