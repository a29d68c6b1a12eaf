"""Tissue taken apart: what a model still knows when nobody stands beside whom they stood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch

from metaniche.data.sample import PreparedSample


def shuffled_coordinates(sample: PreparedSample, seed: int = 0) -> PreparedSample:
    """The same cells, each at the place of another: who stands next to whom is chance, everything else is as it was."""
    order = np.random.default_rng([seed, sample.n_cells]).permutation(sample.n_cells)
    return replace(sample, x=sample.x[order], cells=sample.cells.iloc[order], file_order=sample.file_order[order])


def random_edges(sample: PreparedSample, seed: int = 0) -> PreparedSample:
    """The same cells with as many senders each, at the same distances and weights, drawn from the whole sample.

    A training window's halo is then most of the sample: this control takes some times as long as the network itself.
    """
    graph, rng = sample.graph, np.random.default_rng([seed, sample.n_cells])
    n, degrees = graph.n_cells, graph.indptr.diff().tolist()
    senders = [_others(rng, n, receiver, degree) for receiver, degree in enumerate(degrees)]
    indices = torch.from_numpy(np.concatenate(senders).astype(np.int32)) if senders else graph.indices
    return replace(sample, graph=replace(graph, indices=indices))


TISSUES: Mapping[str, Callable[[PreparedSample], PreparedSample]] = MappingProxyType(
    {"coordinates shuffled": shuffled_coordinates, "random edges": random_edges}
)


def _others(rng: np.random.Generator, n: int, receiver: int, degree: int) -> np.ndarray:
    """`degree` different cells other than the receiver, ascending."""
    drawn = rng.choice(n - 1, degree, replace=False)
    return np.sort(drawn + (drawn >= receiver))
