"""What the benchmark says, not how fast it is."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import evaluation, memory, report, stage1
from benchmarks.measure import Growth, Options, Row, machine, save
from fewshot import device

ROOT = Path(__file__).parents[2]


@pytest.fixture
def options(tmp_path):
    return Options(torch.device("cpu"), 0.0, 30, 900, tmp_path)


@pytest.mark.parametrize("poolings", [("gap", "gmp"), ("gmp", "dense")])
def test_both_forms_are_measured_on_the_same_tasks(options, poolings):
    row = evaluation.compare(evaluation.draw(900, 30, 4), poolings, options, ("novel", "base", "both"))
    assert row.setting == f"5-way 5-shot 30 queries, 32 px, {'/'.join(poolings)}, novel+base+both"
    assert "accuracies equal on 30 tasks" in row.note
    assert row.ratio == pytest.approx(row.rate / row.plain)


def test_the_drawn_classes_overlap():
    world = evaluation.draw(900, 20, 4)
    evaluator = evaluation.Evaluator(world.features, torch.device("cpu"))
    assert 30 < evaluator.accuracies(world.episodes, "gap", "gap", 10.0)["novel"].mean() < 98


def test_other_accuracies_than_the_plain_forms_end_the_benchmark():
    right = [50.0, 60.0]
    assert "equal" in evaluation.check({"novel": np.array([50.0, 60.0, 1.0])}, {"novel": right}, 100)
    for wrong in ([50.0, 62.0], [51.0, 61.0]):
        with pytest.raises(SystemExit, match="differ"):
            evaluation.check({"novel": np.array(wrong)}, {"novel": right}, 100)


def test_the_report_holds_every_part_that_was_run(options):
    about = machine(options.device)
    save(options.out, "evaluation", [Row("evaluation", "pooled", 500.0, "tasks/s", 20.0, "equal", 31.0)],
         [Growth("evaluation", "GAP / GAP", "shots", value, value / 10) for value in (1, 5)], about)  # fmt: skip
    save(options.out, "easyfsl", [Row("easyfsl", "left out", None, "")], [], about)
    text = report.write(options.out).read_text()
    assert "| pooled | 500 tasks/s | 20 tasks/s | 25.0 | 31.0 | equal |" in text
    assert "| left out |  |  |  |  |  |" in text
    assert "| GAP / GAP | shots | 1: 0.1, 5: 0.5 |" in text
    assert about["revision"] in text
    assert "](growth.png)" in text
    assert (options.out / "growth.png").stat().st_size > 0
    assert pd.read_csv(options.out / "evaluation.rows.csv")["ratio"].tolist() == [25.0]


def test_a_part_without_rows_leaves_the_report_readable(options):
    """As that of kept memory on CUDA."""
    about = machine(options.device)
    save(options.out, "memory", [], [], about)
    save(options.out, "stage1", [Row("stage1", "a step", 500.0, "images/s")], [], about)
    text = report.write(options.out).read_text()
    assert "| a step | 500 images/s |" in text
    assert "## memory" not in text


@pytest.fixture
def small(monkeypatch):
    """Stage 1 of a case that takes no time."""
    monkeypatch.setattr(stage1, "CASES", (("c128f", 16),))
    monkeypatch.setattr(stage1, "BATCH", {"cpu": {16: 8, 32: 8, 84: 8}})
    monkeypatch.setattr(stage1, "matmul_rate", lambda *_: 1e9)
    monkeypatch.setattr(stage1, "_grow", lambda *_: [])
    monkeypatch.setattr(stage1, "_products", lambda *_: Row("stage1", "left out", None, ""))


@pytest.mark.parametrize("backbone", ["c128f", "resnet12"])
def test_a_training_in_channels_last_is_the_plain_one(small, backbone):
    """As the benchmark holds them against each other: the same losses, over steps that build on one another."""
    cpu = torch.device("cpu")
    fast, plain = (stage1.trainer(backbone, 16, cpu, "float32", False, contiguous) for contiguous in (False, True))
    kernels = [[p for p in made.network.parameters() if p.dim() == 4 and p.shape[2] > 1] for made in (fast, plain)]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels[0])
    assert all(kernel.is_contiguous() for kernel in kernels[1])
    for step in range(4):
        assert float(fast.step(step)[0]) == pytest.approx(float(plain.step(step)[0]), rel=1e-3)


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler here")
def test_a_compiled_training_is_the_plain_one(small):
    """`compile: true`, for real."""
    compiled, plain = (stage1.trainer("c128f", 16, torch.device("cpu"), "float32", made, False) for made in (True, False))
    assert compiled.compiled is not compiled.network
    for step in range(3):
        assert float(compiled.step(step)[0]) == pytest.approx(float(plain.step(step)[0]), rel=1e-3)


def test_stage_1_says_where_its_time_goes_and_that_both_forms_agree(options, small):
    rows, _ = stage1.run(options)
    for row in rows[2:4]:
        assert re.match(r"first losses \de[-+]\d\d apart; ", row.note), row.note
        spent = re.findall(r"(\d+) % ([a-z ]+)(?:,|$)", row.note.partition("by kind: ")[2])
        assert {kind for _, kind in spent} == {*stage1.KINDS, stage1.OPTIMIZER, stage1.OTHERS}
        assert 95 <= sum(int(share) for share, _ in spent) <= 105
        assert int(next(share for share, kind in spent if kind == "convolutions")) > 0


def test_forms_of_stage_1_that_do_not_agree_end_the_benchmark(options, small, monkeypatch):
    monkeypatch.setattr(stage1, "LARGEST", dict.fromkeys(stage1.LARGEST, -1.0))
    with pytest.raises(SystemExit, match="the losses of both forms of stage 1 differ: "):
        stage1.run(options)


def test_kept_memory_stands_beside_returned_memory(options, monkeypatch):
    made = iter([("kept", 0.5), ("returned", 0.9), ("kept", 0.25), ("returned", 1.0)])

    def child(form, _):
        named, clock = next(made)
        assert form == named
        return {"clock": clock, "processor": 2 * clock, "faults": 1000 * clock, "gigabytes": clock}

    monkeypatch.setattr(memory, "_child", child)
    (row,), _ = memory.run(options)
    assert (row.rate, row.plain, row.processor_ratio) == (4.0, 1 / 0.9, 1.8 / 0.5)  # the best of each
    assert row.note == "250 page faults an image, 0.2 GB at most; plain 900 page faults an image, 0.9 GB at most"


@pytest.mark.parametrize("form", ["kept", "returned"])
def test_a_step_of_either_form_is_measured_an_image(form, monkeypatch):
    monkeypatch.setattr(device, "_keep_memory", device._keep_memory)  # put back at the end
    monkeypatch.setattr(memory, "BATCH", 2)
    monkeypatch.setitem(stage1.BATCH["cpu"], memory.SIZE, stage1.BATCH["cpu"][memory.SIZE])
    found = memory._measure(form, 1, 0.0)
    assert 0 < found["clock"] < 5
    assert set(found) == {"clock", "processor", "faults", "gigabytes"}
    assert found["gigabytes"] > 0.1


def test_the_benchmark_has_the_projects_versions():
    def versions(path):
        return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE))

    of_project, of_benchmark = versions(ROOT / "requirements.lock"), versions(ROOT / "benchmarks" / "requirements.lock")
    assert {name: version for name, version in of_benchmark.items() if name in of_project and of_project[name] != version} == {}
    assert "easyfsl" in of_benchmark
    assert "easyfsl" not in of_project
