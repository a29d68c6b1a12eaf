"""Times of complexes, ligand-receptor signals and pair logits on a GPU, beside gpu_bench.py."""

from __future__ import annotations

from dataclasses import replace

import gpu_bench
import torch

from metaniche.ops import (
    LigandReceptor,
    complex_expression,
    pair_logits,
    received_signal,
    type_pair_sums,
)

TYPES, GENES, PAIRS, DENSITY, HEADS = 30, 700, 2000, 0.08, 4


def ours(speed: float, graphs: list) -> list[gpu_bench.Timing]:
    """Bounds are bytes, each input read once and each output written once. Every edge gathers its sender's entries as
    well, which come from the cache where neighbours in space are neighbours in memory: `GENES * DENSITY * 8` bytes an
    edge, 6.7 GB at a million cells of 15 neighbours.
    """
    timed, n = gpu_bench.timed, graphs[0][0].numel() - 1
    ligand, receptor = (sparse(n, seed) for seed in (0, 1))
    lig, rec = (torch.randint(GENES, (PAIRS,), device="cuda", dtype=torch.int32) for _ in range(2))
    types = torch.randint(TYPES, (n,), device="cuda", dtype=torch.int32)
    group = torch.randint(200, (PAIRS,), device="cuda", dtype=torch.int32)
    weight_HP = torch.randn(HEADS, PAIRS, device="cuda", requires_grad=True)
    edges, size = graphs[0][1].numel(), f"{n / 1e6:g} M cells x {PAIRS} pairs"
    side, of_graph = 12 * ligand.values().numel() + 8 * n, 8 * n + 4 * edges  # columns of torch's CSR are int64
    sets = [LigandReceptor(ligand, receptor, lig, rec, *graph, torch.rand(edges, device="cuda")) for graph in graphs]
    saturated = [replace(x, half_saturation=0.5) for x in sets]
    read, sums = 2 * side + of_graph + 4 * edges, 8 * TYPES**2 * PAIRS
    found = []
    for name, problems in (("product", sets), ("Hill", saturated)):
        found += [
            timed(
                f"type_pair_sums {name}", size, lambda x: type_pair_sums(x, types, TYPES), problems, read + sums, speed
            ),
            timed(f"received_signal {name}, one group", size, received_signal, problems, read + 4 * n, speed),
            timed(
                f"received_signal {name}, 200 groups",
                size,
                lambda x: received_signal(x, group, 200),
                problems,
                read + 800 * n,
                speed,
            ),
        ]

    def train(graph: tuple) -> tuple:
        return torch.autograd.grad(pair_logits(ligand, receptor, weight_HP, lig, rec, *graph).sum(), [weight_HP])

    def infer(graph: tuple) -> torch.Tensor:
        with torch.no_grad():
            return pair_logits(ligand, receptor, weight_HP, lig, rec, *graph)

    forward, out = 2 * side + of_graph, 4 * HEADS * edges
    found.append(timed(f"pair_logits x {HEADS} forward", size, infer, graphs, forward + out, speed))
    found.append(timed(f"pair_logits x {HEADS} and weight gradient", size, train, graphs, 2 * (forward + out), speed))
    ptr = torch.arange(0, GENES + 1, 2, device="cuda")
    genes = torch.arange(GENES, device="cuda", dtype=torch.int32)
    size = f"{n / 1e6:g} M cells x {GENES // 2} complexes"
    made = 8 * complex_expression(ligand, ptr, genes).values().numel()
    found.append(
        timed("complex_expression", size, lambda x: complex_expression(x, ptr, genes), [ligand], side + made, speed)
    )
    return found


def sparse(n: int, seed: int) -> torch.Tensor:
    """(n, GENES) CSR with the same number of entries in every row, spread over the genes."""
    g = torch.Generator(device="cuda").manual_seed(seed)
    count = int(DENSITY * GENES)
    step = GENES // count
    columns = torch.randint(step, (n, count), device="cuda", generator=g) + step * torch.arange(count, device="cuda")
    ptr = torch.arange(n + 1, device="cuda") * count
    values = torch.rand(n * count, device="cuda", generator=g)
    return torch.sparse_csr_tensor(ptr, columns.flatten(), values, (n, GENES), check_invariants=False)
