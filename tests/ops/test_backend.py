import logging

import pytest
import torch

from metaniche.errors import ConfigError, KernelError
from metaniche.ops import backend
from metaniche.ops.backend import best, choose, use_backend

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(backend, "cuda_status", lambda: (True, "driver for CUDA 13.0, sm_90"))


def test_auto_takes_native_code_for_the_device(gpu, monkeypatch):
    monkeypatch.setattr(backend, "native", lambda: object())
    assert best("edge_attention", CPU) == ("cpu", "")
    assert best("edge_attention", CUDA) == ("cuda", "")
    assert best("segment_sum", CPU) == ("reference", "no native code for the CPU")
    assert best("delaunay_neighbors", CUDA) == ("reference", "no kernel for cuda")
    assert best("edge_attention", CUDA, "no kernel for torch.float64") == ("reference", "no kernel for torch.float64")


def test_without_native_code_the_reference_runs_and_says_why(monkeypatch):
    monkeypatch.setattr(backend, "native", lambda: None)
    monkeypatch.setattr(backend, "native_status", lambda: "not built")
    monkeypatch.setattr(backend, "cuda_status", lambda: (False, "torch sees no GPU"))
    assert best("edge_attention", CPU) == ("reference", "not built")
    assert best("edge_attention", CUDA) == ("reference", "torch sees no GPU")


def test_auto_says_once_what_runs(gpu, monkeypatch, caplog):
    monkeypatch.setattr(backend, "_told", set())
    with caplog.at_level(logging.INFO, logger=backend.__name__):
        for _ in range(3):
            choose("edge_attention", CUDA, "no kernel for torch.float64")
    assert caplog.messages == ["edge_attention runs on reference (no kernel for torch.float64)"]


def test_a_backend_that_was_asked_for_is_never_replaced(gpu, monkeypatch):
    with use_backend("cuda"):
        assert choose("edge_attention", CUDA) == "cuda"
        with pytest.raises(KernelError, match="Expected tensors on cuda for edge_attention .* found cpu"):
            choose("edge_attention", CPU)
        with pytest.raises(KernelError, match=r"CUDA backend cannot run edge_attention: no kernel for torch.float64"):
            choose("edge_attention", CUDA, "no kernel for torch.float64")
        with pytest.raises(KernelError, match="cannot run delaunay_neighbors: no kernel for cuda"):
            choose("delaunay_neighbors", CUDA)
        monkeypatch.setattr(backend, "cuda_status", lambda: (False, "torch sees no GPU"))
        with pytest.raises(KernelError, match="torch sees no GPU"):
            choose("edge_attention", CUDA)
    monkeypatch.setattr(backend, "native", lambda: None)
    with use_backend("cpu"), pytest.raises(KernelError, match="CPU backend cannot run edge_attention"):
        choose("edge_attention", CPU)


def test_reference_runs_anywhere():
    with use_backend("reference"):
        assert choose("edge_attention", CPU) == choose("edge_attention", CUDA) == "reference"


def test_the_environment_speaks_for_a_whole_process(monkeypatch):
    monkeypatch.setenv(backend.VARIABLE, "reference")
    assert backend.wanted() == "reference"
    with use_backend("auto"):
        assert backend.wanted() == "auto"
    monkeypatch.setenv(backend.VARIABLE, "gpu")
    with pytest.raises(ConfigError, match="METANICHE_BACKEND"):
        backend.wanted()


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="found 'gpu'"), use_backend("gpu"):
        pass
