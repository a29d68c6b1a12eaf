"""What is worked out once for tensors that stay: the layers and steps of a training run share their graph and expression."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")


def kept(build: Callable[..., T]) -> Callable[..., T]:
    """`build(*tensors, *others)`, the last result kept while the last tensor lives and none of them is written to.

    Tensors made under `torch.inference_mode` do not tell when they are written to: for them it is built every time. Nor do any
    others tell of what is written past torch, through `.data` or a numpy array that shares their memory. On a GPU
    every stream builds its own, since none waits for what another is still building; and so does a CUDA graph, which may be
    replayed on other numbers.
    """
    known = WeakTensorKeyDictionary()

    @wraps(build)
    def found(*given: Tensor | int | None) -> T:
        tensors = [x for x in given if isinstance(x, Tensor)]
        if any(x.is_inference() for x in tensors):
            return build(*given)
        *others, owner = tensors
        if owner.is_cuda and torch.cuda.is_current_stream_capturing():
            return build(*given)
        stream = torch.cuda.current_stream(owner.device).cuda_stream if owner.is_cuda else None
        state = [x._version for x in tensors], given[len(tensors) :], stream
        held = known.get(owner)
        if held is None or held[1] != state or any(ref() is not x for ref, x in zip(held[0], others, strict=True)):
            known[owner] = held = [weakref.ref(x) for x in others], state, build(*given)
        return held[2]

    found.known = known
    return found
