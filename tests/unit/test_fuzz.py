"""Files from elsewhere, damaged by hypothesis in a hundred ways each: taken, or refused in one line. `make fuzz` tries more."""

import pickle
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.target import check, place
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
INPUTS = 100


TELLING = (
    *(number.to_bytes(8, order) for number in (0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1) for order in ("little", "big")),
    b"\x7f", b"\xff", b"\xff" * 4, b"../../../x", b"/etc/passwd", b"999999999999", b"\x00" * 9, b"nan", b"-1", b"1e999", b"\r",
)  # fmt: skip


@st.composite
def mutated(draw, seeds: list[bytes]) -> bytes:
    """One of the inputs that a reader takes, with some of its bytes flipped, cut, repeated, overwritten or spliced."""
    changed = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(changed)))
        cut = draw(st.integers(0, 40))
        match draw(st.sampled_from(("flip", "cut", "repeat", "overwrite", "splice"))):
            case "flip" if changed:
                changed[at % len(changed)] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del changed[at : at + cut]
            case "repeat":
                changed[at:at] = changed[at : at + cut] * draw(st.integers(1, 20))
            case "overwrite":
                new = draw(st.sampled_from(TELLING) | st.binary(max_size=8))
                changed[at : at + len(new)] = new
            case "splice":
                other = draw(st.sampled_from(seeds))
                changed[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(changed)


@pytest.fixture(scope="module", autouse=True)
def _clean():
    yield
    shutil.rmtree(place(), ignore_errors=True)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_is_taken_or_refused_in_one_line(name):
    target = TARGETS[name]
    seeds = target.seeds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(check(target, seed) for seed in seeds)
    refused = []

    @settings(max_examples=INPUTS, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(mutated(seeds))
    def tried(data: bytes) -> None:
        refused.append(not check(target, data))

    tried()
    assert sum(refused) > INPUTS // 20
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
