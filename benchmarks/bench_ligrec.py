"""Ligand-receptor sums by sender type, receiver type and pair: 700 ligands and receptors at 8 % density, 30 types."""

from functools import partial

from bench_neighbors import tissue
from harness import Case, Target

TYPES, GENES, PAIRS, DENSITY = 30, 700, 2000, 0.08
RADIUS_UM = 22.0  # about 15 neighbours at the density of `tissue`
DECAY_UM = 20.0


def inputs(n: int) -> dict:
    import torch

    from metaniche.ops import LigandReceptor, hilbert_order, radius_neighbors

    x = tissue(n)
    pos = x["pos"][hilbert_order(x["pos"], x["ptr"])].contiguous()
    indptr, indices, distance = radius_neighbors(pos, x["ptr"], RADIUS_UM)
    g = torch.Generator().manual_seed(0)
    lig, rec = (torch.randint(GENES, (PAIRS,), generator=g, dtype=torch.int32) for _ in range(2))
    weight = torch.exp(-distance / DECAY_UM)
    problem = LigandReceptor(sparse(n, g), sparse(n, g), lig, rec, indptr, indices, weight)
    return {"problem": problem, "types": torch.randint(TYPES, (n,), generator=g, dtype=torch.int32)}


def sparse(n: int, g) -> object:
    """(n, GENES) CSR with the same number of entries in every row, spread over the columns."""
    import torch

    count = int(DENSITY * GENES)
    step = GENES // count
    columns = torch.randint(step, (n, count), generator=g, dtype=torch.int32) + step * torch.arange(count).int()
    ptr = torch.arange(n + 1, dtype=torch.int32) * count
    values = torch.rand(n * count, generator=g)
    return torch.sparse_csr_tensor(ptr, columns.flatten(), values, (n, GENES), check_invariants=False)


def type_sums(given: dict) -> object:
    from metaniche.ops import type_pair_sums

    return type_pair_sums(given["problem"], given["types"], TYPES)


def received(given: dict) -> object:
    from metaniche.ops import received_signal

    return received_signal(given["problem"])


def saturated(given: dict) -> object:
    from dataclasses import replace

    from metaniche.ops import type_pair_sums

    return type_pair_sums(replace(given["problem"], half_saturation=0.5), given["types"], TYPES)


def products(given: dict) -> object:
    """What any implementation by sparse products does first: the ligands around each cell, stored for all cells."""
    import scipy.sparse as sp

    x = given["problem"]
    ligand = x.ligand_NL
    left = sp.csr_matrix((ligand.values(), ligand.col_indices(), ligand.crow_indices()), shape=tuple(ligand.shape))
    n = left.shape[0]
    return sp.csr_matrix((x.weight_E.numpy(), x.indices.numpy(), x.indptr.numpy()), shape=(n, n)) @ left


def case(n: int) -> Case:
    solvers = {"type sums": type_sums, "received": received, "type sums, saturated": saturated}
    if n <= 100_000:
        solvers["scipy W @ L alone"] = products
    name = f"{n:,} cells x {PAIRS} pairs"
    targets = (Target("type sums", "seconds", 6), Target("type sums", "extra_mb", 500)) if n == 1_000_000 else ()
    rounds = 3 if n > 100_000 else 5
    return Case(name, partial(inputs, n), solvers, rounds, "ligand-receptor", n, targets=targets)


CASES = [case(10_000), case(100_000), case(1_000_000)]
