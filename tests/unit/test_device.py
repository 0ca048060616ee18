import os
import subprocess
import sys

import pytest
import torch

from fewshot.device import claim_gpu, select_device
from fewshot.errors import ConfigError


def test_auto_says_what_it_took(caplog, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO"):
        assert select_device("auto") == torch.device("cpu")
    assert "device: CPU" in caplog.text


def test_cuda_where_there_is_none_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        select_device("cuda")


CLAIM = """
import os, sys
from pathlib import Path
from fewshot.device import claim_gpu
claim_gpu(Path(sys.argv[1]))
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def test_every_process_keeps_a_gpu_of_its_own_and_lets_go_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-8932f937")
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    assert sorted(process.stdout.readline().strip() for process in processes) == ["1", "1", "GPU-8932f937"]  # the third shares
    for process in processes:
        process.kill()
        process.communicate()
    claim_gpu(tmp_path)  # free again, however they ended
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_gpu_that_was_given_is_kept(monkeypatch, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with caplog.at_level("INFO"):
        claim_gpu()
    assert "GPU of this job: 3" in caplog.text
