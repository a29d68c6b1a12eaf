"""What is worked out once a graph: the layers and steps of a training run share their graph."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

T = TypeVar("T")


def per_graph(build: Callable[[Tensor, Tensor], T]) -> Callable[[Tensor, Tensor], T]:
    """`build(indptr, indices)`, its result kept for as long as `indices` lives and neither tensor is written to."""
    known = WeakTensorKeyDictionary()

    @wraps(build)
    def found(indptr: Tensor, indices: Tensor) -> T:
        versions = indptr._version, indices._version
        held = known.get(indices)
        if held is None or held[0]() is not indptr or held[1] != versions:
            known[indices] = held = weakref.ref(indptr), versions, build(indptr, indices)
        return held[2]

    found.known = known
    return found
