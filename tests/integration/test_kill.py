"""A training killed with SIGKILL at whatever moment, and started again, ends in the bytes of one left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fewshot.config import parse
from fewshot.plan import Plan

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def plan():
    data = yaml.safe_load((ROOT / "tests/integration/tiny.yaml").read_text())
    data["stage1"]["training"] |= {"iterations": 300, "save_every": 0.05, "log_every": 10}
    data["stage1"]["training"]["validation"]["every"] = 100
    return Plan(parse(data))


def test_a_training_survives_sigkill(plan, tmp_path):
    outputs = []
    for name, kills in (("alone", 0), ("killed", 3)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.yaml").write_text(yaml.safe_dump(plan.config.as_dict()))
        command = [sys.executable, "-c", "from fewshot.cli import main; main()"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "prepare", "run.yaml"], cwd=folder, env=environment, check=True, capture_output=True)
        train = [*command, "train", "run.yaml", "--network", "dense", "--threads", "1"]
        network = folder / plan.network_dir(plan.network("dense", 0))
        state = network.with_name(network.name + ".state")
        for _ in range(kills):
            process = subprocess.Popen(train, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
            before = state.stat().st_mtime_ns if state.exists() else 0
            while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
                time.sleep(0.01)  # until it has got further than it was
            time.sleep(random.random() * 0.1)  # any moment, but never the end
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = subprocess.run(train, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        if kills:
            assert "resumed at iteration" in done.stderr
        assert not state.exists()
        outputs.append((network / "model.safetensors").read_bytes())
    assert outputs[0] == outputs[1]
