"""Files from elsewhere, damaged in a few hundred seeded ways: taken, or refused in one line. `make fuzz` tries many more."""

import pickle
import random
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch

from tests.fuzz.target import check, place
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
INPUTS = 100


def mutated(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Flip, cut, repeat, overwrite with telling numbers, splice."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        how = rng.randrange(6)
        if how == 0 and changed:
            changed[at % len(changed)] ^= 1 << rng.randrange(8)
        elif how == 1:
            del changed[at : at + rng.randrange(40)]
        elif how == 2:
            changed[at:at] = changed[at : at + rng.randrange(40)] * rng.randrange(1, 20)
        elif how == 3:
            number = rng.choice((0, 1, 0x7F, 0xFF, 2**31 - 1, 2**32 - 1, 2**63 - 1)).to_bytes(8, rng.choice(("little", "big")))
            changed[at : at + 8] = number[: rng.choice((1, 2, 4, 8))]
        elif how == 4:
            changed[at : at + 12] = rng.choice(
                (b"../../../x", b"/etc/passwd", b"999999999999", b"\x00" * 9, b"nan", b"-1", b"1e999")
            )
        else:
            other = rng.choice(others)
            changed[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(changed)


@pytest.fixture(scope="module", autouse=True)
def _clean():
    yield
    shutil.rmtree(place(), ignore_errors=True)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_taken_or_refused_in_one_line(name):
    target, rng = TARGETS[name], random.Random(name)
    seeds = target.seeds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = [check(target, seed) for seed in seeds]
    assert any(taken)
    refused = sum(not check(target, mutated(rng.choice(seeds[:12]), rng, seeds)) for _ in range(INPUTS))
    assert refused > INPUTS // 20
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 600, f"{grown:.0f} MB"


class Harm:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_no_pickle_is_loaded_anywhere_else():
    """Whoever unpickles says so: the restricted reader alone, and torch only for weights."""
    words = re.compile(r"\bpickle\b|\bcPickle|\bdill\b|cloudpickle|joblib|marshal|shelve|read_pickle|allow_pickle=True")
    found = set()
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk")]:
        text = path.read_text()
        code = re.sub(r'"""[\s\S]*?"""|#[^\n]*', "", text)
        if words.search(re.sub(r'"pickles?"|Literal\[[^]]*\]|\bpickles\b', "", code)):
            found.add(path.relative_to(ROOT).as_posix())
        for call in re.findall(r"torch\.load\((.*)\)", code):
            assert "weights_only=True" in call, path
        for call in re.findall(r"np\.load\((.*)\)", code):
            assert "allow_pickle=False" in call, path
    assert found <= {"src/fewshot/data/unpickle.py"}


def test_a_pickle_in_place_of_any_file_is_refused_and_not_run(tmp_path):
    mark = tmp_path / "mark"
    harm = pickle.dumps(Harm(mark))
    torch.save(Harm(mark), tmp_path / "t")
    for payload in (harm, b"\x03" + harm, b"\x01" + harm, (tmp_path / "t").read_bytes()):
        for name, target in TARGETS.items():
            taken = check(target, payload)
            assert not mark.exists(), name
            assert not taken or name == "archives", name  # what torch writes is a zip file, and is listed as one
