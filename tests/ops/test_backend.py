import logging

import pytest
import torch

from metaniche.errors import ConfigError, KernelError
from metaniche.ops import backend as room
from metaniche.ops import use_backend

CPU = torch.device("cpu")


def test_the_backend_asked_for_runs_and_the_old_one_returns():
    with use_backend("reference"):
        assert room.choose("segment_sum", CPU) == "reference"
        with use_backend("cpu"):
            assert room.choose("segment_sum", CPU) == "cpu"
        assert room.choose("segment_sum", CPU) == "reference"


def test_the_environment_decides_for_a_process(monkeypatch):
    with use_backend("auto"):
        token = room._wanted.set(None)
        monkeypatch.setenv(room.VARIABLE, "reference")
        assert room.choose("segment_sum", CPU) == "reference"
        monkeypatch.setenv(room.VARIABLE, "gpu")
        with pytest.raises(ConfigError, match=r"METANICHE_BACKEND.*'gpu'"):
            room.choose("segment_sum", CPU)
        room._wanted.reset(token)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match="'fast'"), use_backend("fast"):
        pass


def test_a_backend_that_cannot_run_says_why_and_never_falls_back(monkeypatch):
    with use_backend("cuda"), pytest.raises(KernelError, match="found cpu"):
        room.choose("segment_sum", CPU)
    monkeypatch.setattr(room, "_load", lambda: (None, "not built: no C++ compiler"))
    with use_backend("cpu"), pytest.raises(KernelError, match="no C\\+\\+ compiler"):
        room.choose("segment_sum", CPU)


def test_auto_says_once_which_implementation_ran_and_why(monkeypatch, caplog):
    monkeypatch.setattr(room, "_told", set())
    monkeypatch.setattr(room, "_load", lambda: (None, "not built: no C++ compiler"))
    with caplog.at_level(logging.INFO), use_backend("auto"):
        assert room.choose("segment_sum", CPU) == "reference"
        assert room.choose("segment_sum", CPU) == "reference"
    assert [r.getMessage() for r in caplog.records] == ["segment_sum runs on reference (not built: no C++ compiler)"]


def test_native_code_runs_with_the_threads_of_torch():
    seen = []
    module, _ = room._load()
    if module is None:
        pytest.skip("the native CPU backend was not built")

    class Spy:
        def set_threads(self, n):
            seen.append(n)

    original = room._load
    room._load = lambda: (Spy(), "")
    try:
        torch.set_num_threads(2)
        room.native()
    finally:
        room._load = original
        torch.set_num_threads(1)
    assert seen == [2]
