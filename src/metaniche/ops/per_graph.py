"""What is worked out once a graph: the layers and steps of a training run share their graph."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")


def per_graph(build: Callable[..., T]) -> Callable[..., T]:
    """`build(indptr, indices, *others)`, the last result kept while `indices` lives and neither tensor is written to.

    Tensors made under `torch.inference_mode` do not tell when they are written to: for them it is built every time.
    """
    known = WeakTensorKeyDictionary()

    @wraps(build)
    def found(indptr: Tensor, indices: Tensor, *others: int) -> T:
        if indptr.is_inference() or indices.is_inference():
            return build(indptr, indices, *others)
        state = indptr._version, indices._version, others
        held = known.get(indices)
        if held is None or held[0]() is not indptr or held[1] != state:
            known[indices] = held = weakref.ref(indptr), state, build(indptr, indices, *others)
        return held[2]

    found.known = known
    return found
