"""Times of the nulls and of autocorrelation on a GPU, beside gpu_bench.py."""

from __future__ import annotations

from collections.abc import Callable

import torch

from metaniche.ops import (
    bivariate_moran,
    cluster_means_null,
    cluster_means_permutations,
    edge_scores_null,
    moran,
    neighborhood_enrichment,
)

TYPES, GENES, PAIRS, PERMUTATIONS, DENSITY = 30, 1200, 2000, 1000, 0.1


def ours(speed: float, timed: Callable, graphs: list, n: int) -> list:
    """`graphs` of `n` cells; `timed` is that of gpu_bench. Bounds: bytes at `speed`; permutations: see there."""
    return [*of_graphs(speed, timed, graphs, n), *of_labels(speed, timed)]


def of_graphs(speed: float, timed: Callable, graphs: list, n: int) -> list:
    edges, size = graphs[0][1].numel(), f"{n / 1e6:g} M cells"
    graph_bytes, found = 8 * n + 4 * edges, []
    types = torch.randint(TYPES, (n,), device="cuda", dtype=torch.int32)
    weight, x = torch.rand(edges, device="cuda"), torch.rand(n, 256, device="cuda")
    pairs = torch.randint(64, (64, 2), device="cuda")
    few = x[:, :64].contiguous()
    for name, run, n_bytes in (
        ("neighborhood_enrichment", lambda g: neighborhood_enrichment(*g, types, TYPES), 4 * n),
        ("edge_scores_null", lambda g: edge_scores_null(weight, *g, types, TYPES), 4 * n + 4 * edges),
        ("moran x 256", lambda g: moran(x, *g, weight), 4 * 256 * n + 4 * edges),
        ("bivariate_moran 64 x 64", lambda g: bivariate_moran(few, few, pairs, *g, weight), 2 * 4 * 64 * n + 4 * edges),
    ):
        found.append(timed(name, size, run, graphs, graph_bytes + n_bytes, speed))
    return found


def of_labels(speed: float, timed: Callable, n: int = 100_000) -> list:
    sets = [expression(n, seed) for seed in range(3)]
    values = sets[0][0].values().numel()
    size = f"{n / 1e6:g} M cells, {GENES} genes, {PAIRS} pairs"
    moments = timed("cluster_means_null", size, lambda s: cluster_means_null(*s), sets, 8 * values + 12 * n, speed)
    # Not bytes but additions bound it: one a lane and clock in shared memory, for each value and permutation.
    gpu = torch.cuda.get_device_properties(0)
    seconds = values * PERMUTATIONS / (32 * gpu.multi_processor_count * gpu.clock_rate * 1e3)
    name = f"cluster_means_permutations x {PERMUTATIONS} (bound: additions in shared memory)"
    drawn = timed(name, size, lambda s: cluster_means_permutations(*s, PERMUTATIONS), sets, seconds * speed, speed)
    early = timed(
        f"cluster_means_permutations x {PERMUTATIONS}, stop after 20",
        size,
        lambda s: cluster_means_permutations(*s, PERMUTATIONS, stop_after=20),
        sets,
    )
    return [moments, drawn, early]


def expression(n: int, seed: int) -> tuple:
    g = torch.Generator(device="cuda").manual_seed(seed)
    x = torch.rand(n, GENES, device="cuda", generator=g)
    x *= torch.rand(n, GENES, device="cuda", generator=g) < DENSITY
    types = torch.randint(TYPES, (n,), device="cuda", generator=g, dtype=torch.int32)
    lig, rec = (torch.randint(GENES, (PAIRS,), device="cuda", generator=g, dtype=torch.int32) for _ in range(2))
    return x.to_sparse_csr(), types, TYPES, lig, rec
