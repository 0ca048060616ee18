import pytest
import torch

from fewshot.device import select_device
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
