import pytest
import torch

from metaniche.cli import doctor
from metaniche.ops import backend
from metaniche.ops.backend import use_backend


def test_every_op_is_listed_with_its_backend(capsys):
    doctor.main()
    said = capsys.readouterr().out
    assert all(name in said for name in backend.NATIVE)
    assert torch.__version__ in said
    assert backend.native_status() in said
    assert "CUDA kernels" in said


@pytest.mark.parametrize("op", list(backend.NATIVE))
def test_what_it_says_is_what_runs(op):
    expected, _ = backend.best(op, torch.device("cpu"))
    assert doctor.backends(op)[0].startswith(f"cpu: {expected}")
    assert expected == backend.choose(op, torch.device("cpu"))


def test_a_reason_is_given_where_the_reference_runs(monkeypatch):
    monkeypatch.setattr(backend, "native", lambda: None)
    monkeypatch.setattr(backend, "native_status", lambda: "not built: no compiler")
    assert doctor.backends("edge_attention")[0] == "cpu: reference (not built: no compiler)"


def test_a_gpu_without_a_driver_is_explained(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backend, "cuda_status", lambda *_: (False, "cuda-bindings is not installed"))
    assert doctor.backends("edge_attention")[1] == "cuda: reference (cuda-bindings is not installed)"
    assert doctor.backends("delaunay_neighbors")[1] == "cuda: reference (no native code for cuda)"


def test_a_backend_that_was_asked_for_is_shown():
    with use_backend("reference"):
        assert doctor.backends("edge_attention")[0] == "cpu: reference"
        assert ("backend asked for", "reference (METANICHE_BACKEND)") in doctor.about()
    with use_backend("cuda"):
        assert doctor.backends("edge_attention")[0].startswith("cpu: refused (Expected tensors on cuda")


def test_without_nvrtc_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(doctor.compile, "_nvrtc", lambda: (_ for _ in ()).throw(doctor.KernelError("no nvrtc")))
    doctor.compile.nvrtc_version.cache_clear()
    assert dict(doctor.about())["NVRTC"] == "no nvrtc"
    doctor.compile.nvrtc_version.cache_clear()
