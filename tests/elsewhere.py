"""An accelerator that is none: tensors which say that they lie elsewhere, refuse to meet those here, and compute on the CPU.

What runs on it as on the CPU makes every tensor where its data are, and asks CUDA for nothing that it does not do in a fixed
order. Ops of metaniche run their CPU code there; in `kernels` their CUDA path, on a machine that emulates a GPU.
"""

from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from metaniche import ops
from metaniche.ops import backend, segment
from metaniche.ops.cuda.launch import use_machine

ELSEWHERE = torch.device("meta")  # a name that autograd knows, of tensors that nobody makes by accident
MOVES = ("aten._to_copy", "aten.copy_")
INDEXED = ("aten.index.", "aten.index_put.", "aten.index_put_.")
SIZED = (
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.unique",
    "aten._unique",
    "aten.bincount",
    "aten.masked_select",
)
waits = []  # names of the ops, since the context began, for whose result or its size the host waits


class Elsewhere(torch.Tensor):
    """A tensor of the pretended accelerator; `here` holds its numbers."""

    @staticmethod
    def __new__(cls, here):
        like = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, here.shape, device=ELSEWHERE, layout=here.layout, **like)

    def __init__(self, here):
        self.here = here

    def __repr__(self, **_):
        return f"Elsewhere({self.here})"

    def tolist(self):
        return self.here.tolist()

    def numpy(self, *, force=False):
        if force:
            return self.cpu().numpy()
        raise TypeError("a tensor elsewhere has to be copied to the CPU first")

    def __array__(self, *_, **__):
        return self.numpy()

    def data_ptr(self):
        return self.here.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        raise RuntimeError(f"{op} outside of `accelerator()`")


class _Ops(TorchDispatchMode):
    def __init__(self, kernels):
        super().__init__()
        self.kernels = kernels

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if self.kernels and op.namespace == "metaniche":
            with _Factories(), self:
                return _implementation(op)(*args)
        kwargs, tensors = dict(kwargs or {}), [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = [x for x in tensors if isinstance(x, Elsewhere)]
        if str(op).startswith(INDEXED):  # positions may lie on the CPU
            tensors = [x for x in tree_leaves((args[0], args[2:])) if isinstance(x, torch.Tensor)]
        if there and _waits(str(op), args, kwargs):
            waits.append(str(op))
        device = kwargs.pop("device", None)
        stays = bool(there) if device is None else _is_there(device)
        if there and not str(op).startswith(MOVES) and any(x.ndim for x in tensors if not isinstance(x, Elsewhere)):
            raise RuntimeError(f"Expected all tensors of {op} on one device, found two.")
        if there and (why := _no_fixed_order(op, args, kwargs)):
            raise RuntimeError(f"{op} does not have a deterministic implementation on CUDA: {why}")
        if device is not None:
            kwargs["device"] = torch.device("cpu") if stays else device
        out = op(*tree_map(_here, args), **tree_map(_here, kwargs))
        written = {id(x.here): x for x in there}  # an op in place gives the tensor itself
        return tree_map(lambda x: written[id(x)] if id(x) in written else _there(x), out) if stays else out


class _Factories(TorchFunctionMode):
    """What makes tensors without an op of its own."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        args, kwargs = tuple(map(_named, args)), {key: _named(x) for key, x in (kwargs or {}).items()}
        own = args[0] if args else None
        if function is torch.Tensor.cuda:
            function, args = torch.Tensor.to, (own, ELSEWHERE)
        if function in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device")):
            return function(*args, **kwargs | {"device": "cpu"}).to(ELSEWHERE)
        if function is torch.Tensor.new_tensor and isinstance(own, Elsewhere):
            return function(own.here, *args[1:], **kwargs).to(ELSEWHERE)
        if function is torch.Tensor.__getitem__ and isinstance(own, Elsewhere) and isinstance(args[1], list):
            return function(own, torch.tensor(args[1]))
        if function is torch.sparse_csr_tensor and isinstance(own, Elsewhere):
            return Csr(*args)
        if function is torch.Tensor.to_sparse_csr and isinstance(own, Elsewhere):
            return Csr.of(own.here.to_sparse_csr())
        if function is torch.Tensor.to and own.layout == torch.sparse_csr and _is_there(args[1]):
            return Csr.of(own)
        return function(*args, **kwargs)


class Csr:
    """A sparse matrix there: no tensor, for those of other classes have strides."""

    layout, device, ndim, is_sparse_csr = torch.sparse_csr, ELSEWHERE, 2, True

    def __init__(self, crow_indices, col_indices, values, shape):
        self.crow_indices, self.col_indices, self.values = (
            (lambda: crow_indices),
            (lambda: col_indices),
            (lambda: values),
        )
        self.shape, self.dtype = shape, values.dtype

    @classmethod
    def of(cls, here):
        parts = here.crow_indices(), here.col_indices(), here.values()
        return cls(*(part.to(ELSEWHERE) for part in parts), here.shape)

    def to_dense(self):
        return self.cpu().to_dense().to(ELSEWHERE)

    def cpu(self):
        parts = self.crow_indices(), self.col_indices(), self.values()
        return torch.sparse_csr_tensor(*(part.cpu() for part in parts), self.shape)


def _named(x):
    """CUDA is another name of ELSEWHERE."""
    return ELSEWHERE if isinstance(x, str) and x == "cuda" else x


def _is_there(device):
    return isinstance(device, str | torch.device) and torch.device(device) == ELSEWHERE


def _implementation(op):
    """What an op of metaniche does: `_forward` of module X for X, `_backward` for X_backward, `_run` for all of segments."""
    name = op._opname
    if name.startswith("segment_"):
        return partial(segment._run, name)
    module = next(m for m in _modules() if name.startswith(m.__name__.split(".")[-1]))
    return getattr(module, name.removeprefix(module.__name__.split(".")[-1]) or "_forward")


def _modules():
    return [import_module(f"metaniche.ops.{found.name}") for found in iter_modules(ops.__path__)]


def _here(x):
    return x.here if isinstance(x, Elsewhere) else x


def _there(x):
    return Elsewhere(x) if isinstance(x, torch.Tensor) and not isinstance(x, Elsewhere) else x


def _waits(name, args, kwargs):
    if name.startswith(INDEXED):
        return any(isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in args[1])
    if name.startswith("aten.repeat_interleave.Tensor"):
        return kwargs.get("output_size") is None
    return name.startswith(SIZED) or (name.startswith(MOVES) and kwargs.get("device") == torch.device("cpu"))


def _no_fixed_order(op, args, kwargs):
    """What `torch.use_deterministic_algorithms` refuses, of those ops that a network could use."""
    name = str(op).split(".")[1]
    if name == "cumsum" and args[0].is_floating_point():
        return "floats are summed up in any order"
    if name == "bincount" and (*args[1:2], kwargs.get("weights"))[0] is not None:
        return "weights are added in any order"
    return "its order is any" if name in ("histc", "median", "put_", "kthvalue", "nll_loss_forward") else None


@contextmanager
def accelerator(kernels=False):
    """Inside, tensors can be made on and moved to ELSEWHERE."""
    waits.clear()
    with mock.patch("torch.autocast", return_value=nullcontext()), _Factories(), _Ops(kernels):
        yield ELSEWHERE


@contextmanager
def kernels(machine):
    """As `accelerator`; ops take their CUDA path for tensors there, and `machine` runs the kernels."""
    choose = backend.choose

    def chosen(op, device, unable=None):
        if backend.wanted() == "reference" or device != ELSEWHERE:
            return choose(op, device, unable)
        return "reference" if unable or "cuda" not in backend.NATIVE[op] else "cuda"

    with ExitStack() as stack:
        for module in _modules():
            if hasattr(module, "choose"):
                stack.enter_context(mock.patch.object(module, "choose", chosen))
        stack.enter_context(use_machine(machine))
        yield stack.enter_context(accelerator(kernels=True))
