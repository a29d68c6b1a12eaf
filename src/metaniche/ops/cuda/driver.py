"""The GPU through its driver: modules are loaded once a device, kernels run on torch's current stream."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from metaniche.errors import KernelError
from metaniche.ops.cuda import cubins
from metaniche.ops.cuda.specs import SCALARS, Argument, Array, Defines, Kernel

log = logging.getLogger(__name__)

INTEGRATED = (87, 101)  # compute capabilities, times ten


class Gpu:
    """Loads machine code and launches it with cuda-bindings; needs neither nvcc nor a toolkit."""

    def __init__(self) -> None:
        self._cuda = _driver()
        try:
            _ok(*self._cuda.cuInit(0))
        except RuntimeError as error:  # cuda-bindings without a driver beside it
            raise KernelError(f"The NVIDIA driver cannot be loaded: {error}") from error
        version = _ok(*self._cuda.cuDriverGetVersion())
        self.version = version // 1000, version % 1000 // 10
        self._functions: dict[tuple, object] = {}
        self._modules: dict[tuple, object] = {}
        self._contexts: dict[int, object] = {}
        self._lock = threading.Lock()

    def run(self, kernel: Kernel, defines: Defines, blocks: tuple[int, int], arguments: Sequence[Argument]) -> None:
        device = next(x.device for x in arguments if isinstance(x, Tensor))
        if device.type != "cuda":
            raise KernelError(f"Expected the tensors of {kernel.name} on a CUDA device, found {device}.")
        with torch.cuda.device(device):
            _ok(*self._cuda.cuCtxSetCurrent(self._context(device.index, kernel.name)))
            function = self._function(kernel, defines, device.index)
            values, pointers = _packed(kernel, arguments)
            stream = torch.cuda.current_stream(device).cuda_stream
            grid, block = (*blocks, 1), (kernel.threads, 1, 1)
            (error,) = self._cuda.cuLaunchKernel(function, *grid, *block, 0, stream, ctypes.addressof(pointers), 0)
            del values  # alive until the driver has copied them
            _ok(error, what=f"launch of {kernel.name}")

    def architecture(self, index: int) -> str:
        """Such as sm_90."""
        major, minor = torch.cuda.get_device_capability(index)
        return f"sm_{major}{minor}"

    def _context(self, index: int, name: str):
        """The context that torch uses."""
        if index not in self._contexts:
            _refuse_capture(name)
            torch.cuda.current_stream(index).synchronize()  # torch has initialised the device
            handle = _ok(*self._cuda.cuDeviceGet(index))
            self._contexts[index] = _ok(*self._cuda.cuDevicePrimaryCtxRetain(handle))
        return self._contexts[index]

    def _function(self, kernel: Kernel, defines: Defines, index: int):
        module = kernel.source, index, tuple(sorted(defines.items()))
        found = self._functions.get((module, kernel.name))
        if found is None:
            _refuse_capture(kernel.name)
            with self._lock:
                if module not in self._modules:
                    self._modules[module] = self._load(kernel, defines, index)
                found = _ok(*self._cuda.cuModuleGetFunction(self._modules[module], kernel.name.encode()))
                self._functions[module, kernel.name] = found
        return found

    def _load(self, kernel: Kernel, defines: Defines, index: int):
        code, origin = cubins.cubin(kernel.source, defines, code_for(self.architecture(index)), self.version)
        log.debug("%s %s from %s", kernel.source, dict(defines), origin)
        try:
            return _ok(*self._cuda.cuModuleLoadData(code), what=f"loading {kernel.source}")
        except KernelError as error:
            hint = "Update the driver, or install the nvidia-cuda-nvrtc of its CUDA version."
            raise KernelError(f"{error} The driver serves CUDA {self.version}. {hint}") from error


def _refuse_capture(name: str) -> None:
    if torch.cuda.is_current_stream_capturing():
        what = "is loaded at its first use, which a CUDA graph cannot capture. Run the op once before."
        raise KernelError(f"{name} {what}")


@cache
def gpu() -> Gpu:
    """The one Gpu of this process; KernelError where the driver cannot be used."""
    return Gpu()


def status(index: int | None = None) -> tuple[bool, str]:
    """Whether CUDA kernels can run on a GPU, torch's current one for None, and with what or why not."""
    return _status(torch.cuda.current_device() if index is None and torch.cuda.is_available() else index)


@cache
def _status(index: int | None) -> tuple[bool, str]:
    if not torch.cuda.is_available():
        why = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        return False, why
    try:
        machine = gpu()
        arch = machine.architecture(index)
        if int(arch.removeprefix("sm_")) < 80:
            return False, f"{arch} is older than sm_80"
    except KernelError as error:
        return False, str(error)
    pack = "pack" if cubins.pack_majors(code_for(arch)) else "no pack: compiled at first use"
    return True, f"driver for CUDA {machine.version[0]}.{machine.version[1]}, {arch}, {pack}"


def code_for(arch: str) -> str:
    """The architecture to compile for: machine code of sm_80 runs on sm_86 and sm_89, as that of sm_100 on sm_103; but not on
    the integrated GPUs of Jetson, which run their own alone."""
    number = int(arch.removeprefix("sm_"))
    if number in INTEGRATED:
        return arch
    return f"sm_{number // 10 * 10}"


def _packed(kernel: Kernel, arguments: Sequence[Argument]):
    """The arguments in memory and the array of their addresses, as cuLaunchKernel takes them."""
    values = [
        ctypes.c_void_p(x.data_ptr()) if isinstance(spec, Array) else SCALARS[spec.ctype](x)
        for spec, x in zip(kernel.arguments, arguments)
    ]
    return values, (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))


def _driver():
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise KernelError(f"cuda-bindings is not installed ({error}). {cubins.compile.INSTALL}") from error
    return driver


def _ok(error, *values, what: str = "driver call"):
    if int(error) != 0:
        raise KernelError(f"CUDA: {what} failed with {error.name}.")
    return values[0] if len(values) == 1 else values
