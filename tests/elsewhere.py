"""An accelerator that is none: tensors which say that they lie elsewhere, refuse to meet those here, and compute on the CPU.

What runs on it as on the CPU makes every tensor where its data are, and asks CUDA for nothing that it does not do in a fixed
order. Kernels are not run: the ops' native CPU code takes their place.
"""

from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("meta")  # a name that autograd knows, of tensors that nobody makes by accident
MOVES = ("aten._to_copy", "aten.copy_")


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

    def numpy(self, **_):
        raise TypeError("a tensor elsewhere has to be copied to the CPU first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        raise RuntimeError(f"{op} outside of `accelerator()`")


class _Ops(TorchDispatchMode):
    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs, tensors = dict(kwargs or {}), [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = [x for x in tensors if isinstance(x, Elsewhere)]
        device = kwargs.pop("device", None)
        stays = bool(there) if device is None else torch.device(device) == ELSEWHERE
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
    """`torch.tensor` on a device is no op of its own."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        made = function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None
        if made and torch.device(kwargs["device"]) == ELSEWHERE:
            return function(*args, **kwargs | {"device": "cpu"}).to(ELSEWHERE)
        return function(*args, **kwargs)


def _here(x):
    return x.here if isinstance(x, Elsewhere) else x


def _there(x):
    return Elsewhere(x) if isinstance(x, torch.Tensor) and not isinstance(x, Elsewhere) else x


def _no_fixed_order(op, args, kwargs):
    """What `torch.use_deterministic_algorithms` refuses, of those ops that a network could use."""
    name = str(op).split(".")[1]
    if name == "cumsum" and args[0].is_floating_point():
        return "floats are summed up in any order"
    if name == "bincount" and (*args[1:2], kwargs.get("weights"))[0] is not None:
        return "weights are added in any order"
    return "its order is any" if name in ("histc", "median", "put_", "kthvalue", "nll_loss_forward") else None


@contextmanager
def accelerator():
    """Inside, tensors can be made on and moved to ELSEWHERE."""
    with mock.patch("torch.autocast", return_value=nullcontext()), _Factories(), _Ops():
        yield ELSEWHERE
