"""The driver's side without a GPU: a stand-in for cuda-bindings says what it was asked."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from simt.machine import compiler

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


def test_a_device_that_is_first_used_under_capture_is_not_waited_for(fake, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(KernelError, match="k is loaded at its first use"):
        driver.Gpu()._context(0, "k")


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


# A process in which a tensor says that it lies on a GPU, and which launches the kernel above twice, and then wrongly.
LAUNCHES = """
import contextlib, types
import torch
from metaniche.errors import KernelError
from metaniche.ops.cuda import cubins, driver
from ops.cuda.test_driver import KERNEL

class OnGpu(torch.Tensor):
    device = torch.device("cuda", 3)

torch.cuda.device = lambda device: contextlib.nullcontext()
torch.cuda.current_stream = lambda device: types.SimpleNamespace(cuda_stream=7, synchronize=lambda: None)
torch.cuda.is_current_stream_capturing = lambda: False
torch.cuda.get_device_capability = lambda index: (9, 0)
codes = [b"\\x7fELF", b"none"]
cubins.cubin = lambda *args: (codes.pop(0), "pack")
gpu = driver.gpu()
print(gpu.version)
x = torch.arange(3.0).as_subclass(OnGpu)
for defines, blocks in (({}, 5), ({}, 6), ({}, 999), ({"OTHER": 1}, 5)):
    try:
        gpu.run(KERNEL, defines, (blocks, 2), (x, 2**40, 0.5, 2**64 - 1))
    except KernelError as error:
        print(error)
"""


def test_the_real_bindings_hand_over_what_the_driver_is_to_get(tmp_path):
    pytest.importorskip("cuda.bindings.driver")
    if compiler() is None:
        pytest.skip("no compiler for a driver that is none")
    source = Path(__file__).with_name("pretended_driver.c")
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler(), "-x", "c", "-shared", "-fPIC", source, "-o", library, "-ldl"], check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHES], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    launch = (
        "launch k, grid {} 2 1, block 256 1 1, shared 0, stream 7, extra 0: x[2] 2, n 1099511627776, s 0.5, seed {}"
    )
    assert done.stdout.splitlines() == [
        "(13, 1)",
        "context 113",
        "load ELF",
        "function k of 200",
        launch.format(5, 2**64 - 1),
        "context 113",
        launch.format(6, 2**64 - 1),
        "context 113",
        launch.format(999, 2**64 - 1),
        "CUDA: launch of k failed with CUDA_ERROR_INVALID_VALUE.",
        "context 113",
        "load one",
        "CUDA: loading k failed with CUDA_ERROR_INVALID_IMAGE. The driver serves CUDA (13, 1). Update the driver, or install "
        "the nvidia-cuda-nvrtc of its CUDA version.",
    ], done.stderr


@pytest.mark.parametrize(
    ("arch", "code"),
    [
        ("sm_80", "sm_80"),
        ("sm_86", "sm_80"),
        ("sm_89", "sm_80"),
        ("sm_90", "sm_90"),
        ("sm_103", "sm_100"),
        ("sm_87", "sm_87"),
    ],
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
