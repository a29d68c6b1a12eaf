"""The driver's side without a GPU: a stand-in for cuda-bindings says what it was asked."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from metaniche.errors import KernelError
from metaniche.ops.cuda import cubins, driver
from metaniche.ops.cuda.specs import Array, Kernel, Scalar

KERNEL = Kernel("k", "k", (Array("x", torch.float32, ("n",)), Scalar("n"), Scalar("s", "f32"), Scalar("seed", "u64")))


class FakeCuda:
    """Answers as cuda-bindings does: a tuple that begins with the error."""

    def __init__(self, version=13000, failing=()):
        self.version, self.failing, self.calls = version, failing, []

    def __getattr__(self, name):
        def call(*args):
            self.calls.append((name, args))
            error = type("CUresult", (int,), {"name": "CUDA_ERROR_" + name})(name in self.failing)
            return (
                (error, self.version)
                if name in ("cuDriverGetVersion",)
                else (error,)
                if name in SILENT
                else (error, name)
            )

        return call


SILENT = ("cuInit", "cuCtxSetCurrent", "cuLaunchKernel")


@pytest.fixture(autouse=True)
def nothing_is_captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)


@pytest.fixture
def fake(monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setattr(driver, "_driver", lambda: cuda)
    return cuda


def test_arguments_are_packed_as_the_driver_reads_them():
    x = torch.arange(3.0)
    values, pointers = driver._packed(KERNEL, (x, 3, 0.5, 2**64 - 1))
    assert ctypes.cast(pointers[0], ctypes.POINTER(ctypes.c_void_p))[0] == x.data_ptr()
    assert ctypes.cast(pointers[1], ctypes.POINTER(ctypes.c_longlong))[0] == 3
    assert ctypes.cast(pointers[2], ctypes.POINTER(ctypes.c_float))[0] == 0.5
    assert ctypes.cast(pointers[3], ctypes.POINTER(ctypes.c_ulonglong))[0] == 2**64 - 1
    assert len(values) == 4


def test_tensors_of_the_host_are_refused(fake):
    gpu = driver.Gpu()
    assert gpu.version == (13, 0)
    with pytest.raises(KernelError, match="on a CUDA device, found cpu"):
        gpu.run(KERNEL, {}, (1, 1), (torch.zeros(3), 3, 1.0, 0))


def test_a_module_is_loaded_once_a_device(fake, monkeypatch):
    asked = []
    monkeypatch.setattr(cubins, "cubin", lambda *args: asked.append(args) or (b"code", "pack"))
    gpu = driver.Gpu()
    monkeypatch.setattr(gpu, "architecture", lambda index: "sm_89")
    for index in (0, 0, 1):
        assert gpu._function(KERNEL, {"A": 1}, index) == "cuModuleGetFunction"
    other = Kernel("k", "of the same source", KERNEL.arguments)
    assert gpu._function(other, {"A": 1}, 1) == "cuModuleGetFunction"
    assert asked == [("k", {"A": 1}, "sm_80", (13, 0))] * 2
    assert [args[1] for name, args in fake.calls if name == "cuModuleGetFunction"] == [
        b"k",
        b"k",
        b"of the same source",
    ]


def test_the_first_use_is_not_captured(fake, monkeypatch):
    monkeypatch.setattr(cubins, "cubin", lambda *args: (b"code", "pack"))
    monkeypatch.setattr(driver.Gpu, "architecture", lambda self, index: "sm_90")
    gpu = driver.Gpu()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(KernelError, match="Run the op once before"):
        gpu._function(KERNEL, {}, 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    gpu._function(KERNEL, {}, 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert gpu._function(KERNEL, {}, 0) == "cuModuleGetFunction"


def test_a_module_that_does_not_load_says_what_to_do(monkeypatch):
    monkeypatch.setattr(driver, "_driver", lambda: FakeCuda(12080, failing=("cuModuleLoadData",)))
    monkeypatch.setattr(cubins, "cubin", lambda *args: (b"code", "cache"))
    gpu = driver.Gpu()
    monkeypatch.setattr(gpu, "architecture", lambda index: "sm_90")
    with pytest.raises(KernelError, match=r"CUDA_ERROR_cuModuleLoadData.*serves CUDA \(12, 8\).*Update the driver"):
        gpu._function(KERNEL, {}, 0)


def test_bindings_without_a_driver_are_an_error_of_ours(monkeypatch):
    def missing(flags):
        raise RuntimeError("libcuda.so not found")

    monkeypatch.setattr(driver, "_driver", lambda: SimpleNamespace(cuInit=missing))
    with pytest.raises(KernelError, match=r"driver cannot be loaded: libcuda\.so"):
        driver.Gpu()


def test_no_driver_is_an_error_with_a_name(monkeypatch):
    monkeypatch.setattr(driver, "_driver", lambda: FakeCuda(failing=("cuInit",)))
    with pytest.raises(KernelError, match="CUDA_ERROR_cuInit"):
        driver.Gpu()


@pytest.mark.parametrize(
    ("arch", "code"),
    [("sm_80", "sm_80"), ("sm_86", "sm_80"), ("sm_89", "sm_80"), ("sm_90", "sm_90"), ("sm_103", "sm_100")],
)
def test_minor_versions_run_the_code_of_their_major(arch, code):
    assert driver.code_for(arch) == code


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_status_says_why_not():
    ready, why = driver.status()
    assert not ready
    assert "CUDA" in why or "GPU" in why


def test_status_says_what_runs(fake, monkeypatch):
    driver._status.cache_clear()
    driver.gpu.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert driver.status()[0]
    assert "CUDA 13.0, sm_90" in driver.status()[1]
    driver._status.cache_clear()
    assert driver.status(1)[0]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    assert driver.status(2) == (False, "sm_75 is older than sm_80")
    assert driver.status(1)[0]
    driver._status.cache_clear()
    assert driver.status() == (False, "sm_75 is older than sm_80")
    driver._status.cache_clear()
    driver.gpu.cache_clear()
