import contextlib
import datetime
import io
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from typing import ClassVar

import numpy as np
import pytest

from fewshot.data.unpickle import load_restricted
from fewshot.errors import DataError


def load(data):
    return load_restricted(io.BytesIO(data), "some.pkl")


class _Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, the form of the publishers' files."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2_dumps(value):
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_arrays_pass(protocol):
    value = {
        b"data": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "list": [1, 2.5, True, None, (b"x", "y"), bytearray(b"z")],
        "ordered": OrderedDict(a=[1]),
        4: {None: 5, True: 6},
        "floats": np.linspace(0, 1, 5),
    }
    found = load(pickle.dumps(value, protocol=protocol))
    np.testing.assert_array_equal(found[b"data"], value[b"data"])
    np.testing.assert_array_equal(found["floats"], value["floats"])
    assert found["list"] == value["list"]
    assert found["ordered"] == value["ordered"]
    assert found[4] == value[4]


def test_python_2_strings_come_back_as_bytes():
    found = load(python2_dumps({"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, 2]}))
    assert found[b"labels"] == [1, 2]
    assert found[b"data"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_names_of_either_numpy_pass():
    data = pickle.dumps(np.arange(3, dtype=np.uint8), protocol=2)
    assert b"numpy._core.multiarray" in data
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert load(old).tolist() == load(data).tolist() == [0, 1, 2]


class _Payload:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_os_system_is_refused_by_name_and_not_run(tmp_path, protocol):
    mark = tmp_path / "mark"
    with pytest.raises(DataError, match=r"some\.pkl: the pickle asks for (posix|nt|os)\.system"):
        load(pickle.dumps({"data": _Payload(os.system, f"touch {mark}")}, protocol=protocol))
    assert not mark.exists()


@pytest.mark.parametrize(
    "function", [eval, exec, getattr, __import__, open, pickle.loads, np.load, np.fromfile, datetime.datetime.now]
)
def test_other_callables_are_refused(function):
    with pytest.raises(DataError, match="asks for"):
        load(pickle.dumps(_Payload(function, "1")))


def test_codecs_encode_serves_latin1_only():
    data = pickle.dumps(b"\xff", protocol=2)
    assert b"_codecs" in data
    assert load(data) == b"\xff"
    with pytest.raises(DataError, match="text encoding"):
        load(data.replace(b"latin1", b"rot_13"))


class _Thing:
    """An object of a class, as every protocol writes it in its own way."""

    def __init__(self):
        self.a = 1


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [{3}, frozenset({4}), _Thing(), object()])
def test_sets_and_objects_are_refused(value, protocol):
    with pytest.raises(DataError, match="asks for"):
        load(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize("key", [(1, 2), 2.5, 2**40, "x" * 2000, b"x" * 2000])
def test_keys_are_short_and_plain(key):
    for protocol in (0, 2, 5):
        with pytest.raises(DataError, match="a key of type"):
            load(pickle.dumps({key: 1, "b": 2}, protocol=protocol))
        with pytest.raises(DataError, match="a key of type"):
            load(pickle.dumps({key: 1}, protocol=protocol))


def test_an_ordered_dict_of_python_2_passes():
    assert load(b"\x80\x02ccollections\nOrderedDict\n]]U\x01aaK\x01aa\x85R.") == OrderedDict([(b"a", 1)])


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(list(range(99)))[:50]])
def test_damage_is_one_line(data):
    with pytest.raises(DataError, match=r"^some\.pkl: not a whole pickle [^\n]*$"):
        load(data)


def test_what_a_number_in_a_pickle_asks_for_is_never_set_aside():
    """A reader in C would take gigabytes for each of these."""
    huge = struct.pack("<Q", 2**40)
    for data in (
        b"\x80\x05\x96" + huge + b"x.",  # a bytearray
        b"\x80\x04\x8e" + huge + b"x.",  # bytes
        b"\x80\x04Nr\xff\xff\xff\x7f.",  # a place in the memo
        b"\x80\x04\x95" + huge + b"N.",  # a frame
        pickle.dumps(_Payload(bytes, 2**40)),
        pickle.dumps(_Payload(bytearray, 2**40)),
        pickle.dumps(_Payload(np.ndarray, (2**40,))),
        pickle.dumps(_Payload(np.dtype, "V1000000000")),
    ):
        tracemalloc.start()
        with contextlib.suppress(DataError):
            load(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20, data
        tracemalloc.stop()


@pytest.mark.parametrize("value", [np.array([{}]), np.zeros(2, [("a", "u1"), ("b", "f4")]), np.array(["2020"], "M8[Y]")])
def test_arrays_of_anything_but_plain_values_are_refused(value):
    for protocol in (2, 4):
        with pytest.raises(DataError):
            load(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize(
    "value", [np.arange(4, dtype=">i4"), np.array([b"ab", b"c"]), np.array(["ä", "bc"]), np.ones((2, 3), order="F")]
)
def test_byte_order_text_and_layout_are_as_in_the_pickle(value):
    for protocol in (2, 4, 5):
        data = pickle.dumps({"a": value, "again": value}, protocol=protocol)
        found, wanted = load(data), pickle.loads(data)
        np.testing.assert_array_equal(found["a"], value)
        assert found["a"].dtype == wanted["a"].dtype
        assert found["again"] is found["a"]
