"""Times of the nulls and of autocorrelation on a GPU, beside gpu_bench.py."""

from __future__ import annotations

import gpu_bench
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


def of_graphs(speed: float, graphs: list) -> list[gpu_bench.Timing]:
    """Bounds: each input read once, each output written once."""
    n = graphs[0][0].numel() - 1
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
        found.append(gpu_bench.timed(name, size, run, graphs, graph_bytes + n_bytes, speed))
    return found


def of_labels(speed: float, n: int = 100_000) -> list[gpu_bench.Timing]:
    timed = gpu_bench.timed
    sets = [expression(n, seed) for seed in range(3)]
    values = sets[0][0].values().numel()
    size = f"{n / 1e6:g} M cells, {GENES} genes, {PAIRS} pairs"
    moments = timed("cluster_means_null", size, lambda s: cluster_means_null(*s), sets, 12 * values + 12 * n, speed)
    # Not bytes but additions bound it: one a lane and clock in shared memory, for each value and permutation.
    lanes = 32 * torch.cuda.get_device_properties(0).multi_processor_count
    mhz = float(gpu_bench.of_nvidia_smi("clocks.max.sm", units=False) or "inf")
    seconds = values * PERMUTATIONS / (lanes * mhz * 1e6)
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
