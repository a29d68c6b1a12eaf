"""The host emulation of a GPU, and a fault for whoever leaves an output unwritten."""

from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
import torch
from simt.machine import Machine, compiler

from metaniche.ops.cuda.launch import use_machine

# Kernels are built once; the names carry a hash of everything that goes in.
BUILD = Path(__file__).parents[3] / "build" / "simt"


@pytest.fixture(autouse=True, scope="module")
def backend():
    """These tests choose for themselves: once is enough."""


@pytest.fixture(autouse=True)
def poisoned():
    """torch.empty is full of NaN, and of the largest integer."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def simt():
    """simt(seed, ...) runs the launches inside on fibers: `with simt(1): op(...)`."""
    if compiler() is None:
        pytest.skip("no g++ on this machine: the CUDA kernels cannot be run on the host")
    BUILD.mkdir(parents=True, exist_ok=True)
    return lambda seed=0, **how: use_machine(Machine(BUILD, seed, **how))


@pytest.fixture
def on_gpu(monkeypatch):
    """on_gpu(module name) lets a public op take its CUDA path for tensors of the host."""

    @contextmanager
    def pretend(name):
        module = import_module(f"metaniche.ops.{name}")
        with monkeypatch.context() as patch:
            if hasattr(module, "runner"):
                patch.setattr(module, "runner", lambda *_: "cuda")
            else:
                patch.setattr(module, "choose", lambda *_: "cuda")
            yield

    return pretend
