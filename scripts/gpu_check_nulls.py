"""Nulls and autocorrelation on a GPU against the CPU backend, on fresh random inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from metaniche import ops
from metaniche.ops.backend import use_backend

TYPES, GENES = 12, 60


def large_nulls(n: int, seed: int) -> list[str]:
    """What differs; `n` cells, permutations and whole counts compared to the bit."""
    x, types, lig, rec, graph, weight = inputs(n, seed)
    labels, pairs = (types, TYPES, lig, rec), torch.stack((lig, rec), 1).long()
    exact = {
        "neighborhood_enrichment": lambda g: ops.neighborhood_enrichment(*g(*graph, types), TYPES),
        "cluster_means_permutations": lambda g: ops.cluster_means_permutations(*on(g, x, *labels), 70, seed=seed),
        "cluster_means_permutations that stop": lambda g: ops.cluster_means_permutations(
            *on(g, x.to_sparse_csr(), *labels), 200, seed=seed, stop_after=5
        ),
    }
    close = {
        "edge_scores_null": lambda g: ops.edge_scores_null(*g(weight, *graph, types), TYPES),
        "cluster_means_null": lambda g: ops.cluster_means_null(*on(g, x.to_sparse_csr(), *labels)),
        "cluster_means_null dense": lambda g: ops.cluster_means_null(*on(g, x, *labels)),
        "moran": lambda g: ops.moran(*g(x.double(), *graph, weight)),
        "geary": lambda g: ops.geary(*g(x.double(), *graph, weight)),
        "bivariate_moran": lambda g: ops.bivariate_moran(*g(x.double(), x.double(), pairs, *graph, weight)),
    }
    failures = []
    for name, run in (exact | close).items():
        found, expected = both(run)
        rtol = 0.0 if name in exact else 1e-7
        same = [torch.allclose(a.cpu(), b, rtol=rtol, atol=0.1 * rtol, equal_nan=True) for a, b in zip(found, expected)]
        failures += [] if all(same) else [f"{name} differs from the CPU (seed {seed})"]
    return failures


def inputs(n: int, seed: int) -> tuple:
    """Half-empty expression, one type without cells, and a graph of 12 neighbours with a weight an edge."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, GENES, generator=g).pow(3) * (torch.rand(n, GENES, generator=g) < torch.linspace(0, 1, GENES))
    types = torch.randint(TYPES - 1, (n,), generator=g, dtype=torch.int32)
    lig, rec = (torch.randint(GENES, (200,), generator=g, dtype=torch.int32) for _ in range(2))
    pos = torch.rand(n, 2, generator=g) * 300
    with use_backend("auto"):
        indptr, indices, _ = ops.knn_neighbors(pos, torch.tensor([0, n]), 12)
    return x, types, lig, rec, (indptr, indices), torch.rand(indices.numel(), generator=g, dtype=torch.float64)


def on(to: Callable, *given: object) -> list:
    """Tensors moved, numbers as they are."""
    return [to(part)[0] if isinstance(part, torch.Tensor) else part for part in given]


def both(run: Callable) -> tuple:
    """By the kernels and by the CPU backend."""
    found = run(lambda *tensors: [part.cuda() for part in tensors])
    with use_backend("auto"):
        return found, run(lambda *tensors: tensors)
