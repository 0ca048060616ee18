import os
import platform
import subprocess
import sys

import pytest
import torch

from fewshot.device import claim_gpu, multiplies_bfloat16, precision_on, select_device
from fewshot.errors import ConfigError


def test_auto_says_what_it_took(caplog, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO"):
        assert select_device("auto") == torch.device("cpu")
    assert "device: CPU" in caplog.text


def test_a_gpu_that_pytorch_cannot_use_is_told(caplog, monkeypatch):
    """As under a driver too old for it: the job would hold the GPU and compute on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert select_device("cpu") == torch.device("cpu")
    assert "cannot use it" not in caplog.text
    assert select_device("auto") == torch.device("cpu")
    assert "GPU 3 is there, but this PyTorch cannot use it: computing on the CPU" in caplog.text


@pytest.mark.parametrize(
    ("kind", "asked", "in_tf32", "found"),
    [
        ("cpu", "auto", True, "float32"), ("cpu", "bfloat16", True, "bfloat16"), ("cuda", "auto", True, "bfloat16"),
        ("cuda", "float32", True, "TF32"), ("cuda", "float32", False, "float32"),
    ],
)  # fmt: skip
def test_the_precision_of_a_training_by_its_device(monkeypatch, kind, asked, in_tf32, found):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", in_tf32)
    assert precision_on(torch.device(kind), asked) == found


def test_cuda_where_there_is_none_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        select_device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "found"),
    [
        ({"avx512_f": True}, False),
        ({"amx_bf16": True}, True),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"bf16": True}, True),
    ],
)
def test_whether_a_cpu_multiplies_bfloat16(monkeypatch, capabilities, found):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert multiplies_bfloat16() is found
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # an older PyTorch
    assert multiplies_bfloat16() is None


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


STEPS = """
import resource, torch
from fewshot.device import select_device
select_device("cpu", 1)
def step():
    image = torch.ones(12_000_000)
    return torch.relu(image * 2)
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps its memory in its own way")
def test_memory_of_large_tensors_is_kept_for_the_next():
    faults = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True).stdout
    one = 12_000_000 * 4 // os.sysconf("SC_PAGE_SIZE")
    # Kept whole, the pages of none; given back, of 120 tensors, and of 20 where only the end of the heap is. The heap may still
    # grow by a few, once, as its free blocks come to lie.
    assert int(faults) < 10 * one
