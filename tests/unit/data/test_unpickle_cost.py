"""Pickles of kilobytes to megabytes that ask for hours or gigabytes: taken or refused in seconds and in bounded memory."""

import json
import struct
import subprocess
import sys

import pytest

SECONDS = 20
"""For the worst of them, on a busy machine."""
MEGABYTES = 250

N = 100_000


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def put(number: int) -> bytes:
    return b"q" + bytes([number])


def get(number: int) -> bytes:
    return b"h" + bytes([number])


def whole(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 8) // 8, "little")
    return b"\x8b" + struct.pack("<i", len(data)) + data


def doubled(levels: int) -> bytes:
    """A tuple of twice a tuple of twice a tuple ...: a hash of it takes 2 to the power of `levels` steps."""
    return b")" + b"".join(put(1) + b"0" + get(1) + get(1) + b"\x86" for _ in range(levels))


ENCODE, ORDERED, DTYPE = b"c_codecs\nencode\n", b"ccollections\nOrderedDict\n", b"cnumpy\ndtype\n"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
BUFFER = b"cnumpy.core.numeric\n_frombuffer\n"


def array_state(code: bytes, size: int) -> bytes:
    """A memoized array's state: `size` bytes of a type."""
    side = b"J" + struct.pack("<i", size // int(code[-1:]))
    dtype = (
        DTYPE
        + b"U"
        + bytes([2])
        + code[1:]
        + b"\x89\x88\x87R"
        + b"(K\x03U\x01"
        + code[:1]
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    return b"(K\x01" + side + b"\x85" + dtype + b"\x89B" + struct.pack("<I", size) + bytes(size) + b"t"


HOSTILE = {
    "a-key-of-nested-tuples": lambda: b"}" + doubled(100) + b"Ns.",
    "a-key-of-nested-tuples-in-a-dict-of-protocol-0": lambda: b"(" + doubled(100) + b"Nd.",
    "a-pair-of-nested-tuples-for-an-ordered-dict": lambda: ORDERED + b"]" + doubled(100) + b"N\x86a\x85R.",
    "a-set-of-nested-tuples": lambda: b"\x80\x04\x8f(" + doubled(100) + b"\x90.",
    "a-set-called-with-nested-tuples": lambda: b"cbuiltins\nfrozenset\n]" + doubled(100) + b"a\x85R.",
    "a-key-of-a-million-tuples-in-each-other": lambda: b"})" + b"\x85" * 1_000_000 + b"Ns.",
    "numbers-that-fall-together-as-keys": lambda: b"}(" + b"".join(whole(i * (2**61 - 1)) + b"N" for i in range(1, N)) + b"u.",
    "a-long-number-for-a-key-again-and-again": lambda: whole(1 << 8_000_000) + put(1) + b"0}(" + (get(1) + b"N") * N + b"u.",
    "equal-long-texts-for-keys": lambda: (
        text("x" * 1_000_000) + put(1) + b"0" + text("x" * 1_000_000) + put(2) + b"0}("
        + get(1) + b"N" + (get(2) + b"N") * N + b"u."
    ),
    "a-text-made-bytes-again-and-again": lambda: (
        text("x" * 1_000_000) + put(1) + b"0" + text("latin1") + put(2) + b"0" + ENCODE + put(3) + b"0("
        + (get(3) + get(1) + get(2) + b"\x86R") * N + b"t."
    ),
    "a-state-set-again-and-again": lambda: (
        array_state(b">u4", 1_000_000) + put(1) + b"0(" + EMPTY + (get(1) + b"b" + EMPTY) * 10_000 + b"t."
    ),
    "an-array-filled-again-and-again": lambda: (
        EMPTY + array_state(b"<u4", 4_000_000) + b"b" + b"()K\x01u" * N + b"."
    ),
    "a-function-given-a-million-arguments": lambda: (
        DTYPE + put(2) + b"0(U\x02u4" + b"N" * 1_000_000 + b"t" + put(1) + b"0(" + (get(2) + get(1) + b"R") * N + b"t."
    ),
    "a-type-of-a-hundred-thousand-fields": lambda: (
        b"(" + b"".join(text(f"{i:06d}") + text("u1") + b"\x86" for i in range(N)) + b"l" + put(1) + b"0" + BUFFER + put(2)
        + b"0(" + (get(2) + b"(C\x00" + get(1) + b"K\x00\x85U\x01CtR") * 1000 + b"t."
    ),
    "a-list-copied-again-and-again": lambda: (
        b"(" + b"".join(text(f"{i:06d}") + b"N\x86" for i in range(N)) + b"l" + put(1) + b"0" + ORDERED + put(2) + b"0("
        + (get(2) + get(1) + b"\x85R") * 1000 + b"t."
    ),
    "millions-of-marks": lambda: b"(" * 4_000_000 + b".",
    "millions-of-dicts": lambda: b"(" + b"}" * 4_000_000 + b"t.",
    "as-many-ordered-dicts-as-steps-allow": lambda: ORDERED + put(1) + b"(" + (get(1) + b")R") * 660_000 + b"t.",
    "as-many-types-as-steps-allow": lambda: (
        DTYPE + put(1) + b"(U\x02u4\x85" + put(2) + (get(1) + get(2) + b"R") * 660_000 + b"t."
    ),
    "millions-of-lists-in-each-other": lambda: b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "millions-of-frames": lambda: b"\x80\x04" + (b"\x95" + struct.pack("<Q", 1) + b"N") * N + b".",
    "a-long-number-as-text": lambda: b"I" + b"1" * 4_000_000 + b"\n.",
    "a-long-hexadecimal-number-as-text": lambda: b"I0x" + b"1" * 4_000_000 + b"\n.",
    "a-long-fraction-as-text": lambda: b"F0." + b"1" * 4_000_000 + b"\n.",
    "long-fractions-as-text": lambda: b"(" + (b"F0." + b"1" * 700 + b"e-300\n") * 5000 + b"t.",
}  # fmt: skip
"""Kind -> the file."""

READ = """
import json, re, sys, time
from pathlib import Path
from fewshot.data.unpickle import load_restricted
from fewshot.errors import DataError
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

before, start = peak(), time.monotonic()
try:
    load_restricted(sys.stdin.buffer, "file")
    said = ""
except DataError as error:
    said = str(error)
print(json.dumps([said, time.monotonic() - start, peak() - before]))
"""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_costs_seconds_and_bounded_memory(kind):
    data = HOSTILE[kind]()
    done = subprocess.run([sys.executable, "-c", READ], input=data, capture_output=True, timeout=SECONDS + 10, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    said, seconds, megabytes = json.loads(done.stdout)
    print(f"{len(data)} bytes: {seconds:.2f} s, {megabytes:.0f} MB, {said or 'taken'}")
    assert seconds < SECONDS
    assert megabytes < MEGABYTES
