"""Complexes, ligand-receptor signals and pair logits on a GPU against the CPU backend, on fresh random inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from metaniche import ops
from metaniche.ops.backend import use_backend

TYPES, GENES, SUBUNITS, PAIRS, HEADS, DENSITY = 12, 300, 400, 900, 4, 0.08


def large_ligrec(n: int, seed: int) -> list[str]:
    """What differs; `n` cells. Both backends add up in float32 before float64: a sum may differ in its last digits."""
    given = inputs(n, seed)
    runs: dict[str, Callable] = {"complexes": complexes, "pair_logits": logits}
    for name, score in {"product": None, "hill": 0.5}.items():
        runs |= {f"{op.__name__} {name}": (lambda g, op=op, k=score: op(g, k)) for op in (received, sent, type_sums)}
    failures = []
    for name, run in runs.items():
        found = run(on("cuda", given))
        with use_backend("auto"):
            expected = run(on("cpu", given))
        for k, (own, other) in enumerate(zip(found, expected)):
            error = float((own.cpu().double() - other.double()).norm() / other.double().norm().clamp(min=1e-30))
            if not error < 1e-5:
                failures.append(f"{name}, result {k}: relative error {error:.1e} against the CPU (seed {seed})")
    return failures


def complexes(given: dict) -> list:
    x, ptr, genes = given["ligand"], given["ptr"], given["subunits"]
    how = "minimum", "geometric_mean"
    return [ops.complex_expression(y, ptr, genes, h).to_dense() for y in (x, x.to_sparse_csr()) for h in how]


def received(given: dict, half: float | None) -> list:
    return [ops.received_signal(problem(given, half)), ops.received_signal(problem(given, half), given["group"])]


def sent(given: dict, half: float | None) -> list:
    dense = replace(problem(given, half), ligand_NL=given["ligand"], receptor_NR=given["receptor"])
    return [ops.sent_signal(dense, given["group"]), next(iter(ops.sent_by_pair(problem(given, half))))[1]]


def type_sums(given: dict, half: float | None) -> list:
    return list(ops.type_pair_sums(problem(given, half), given["types"], TYPES))


def logits(given: dict) -> list:
    floats = [given[name].clone().requires_grad_() for name in ("ligand", "receptor", "head_weight")]
    graph = given["indptr"], given["indices"]
    out = ops.pair_logits(*floats, given["lig"], given["rec"], *graph)
    return [out.detach(), *torch.autograd.grad(out, floats, given["slope"])]


def problem(given: dict, half: float | None) -> ops.LigandReceptor:
    sides = given["ligand"].to_sparse_csr(), given["receptor"].to_sparse_csr()
    graph = given["indptr"], given["indices"], given["weight"]
    return ops.LigandReceptor(*sides, given["lig"], given["rec"], *graph, half, 1.5)


def inputs(n: int, seed: int) -> dict:
    """Sparse expression that is never negative, and a graph of 12 neighbours."""
    g = torch.Generator().manual_seed(seed)
    ligand, receptor = (
        torch.rand(n, GENES, generator=g) * (torch.rand(n, GENES, generator=g) < DENSITY) for _ in range(2)
    )
    lig, rec = (torch.randint(GENES, (PAIRS,), generator=g, dtype=torch.int32) for _ in range(2))
    with use_backend("auto"):
        indptr, indices, _ = ops.knn_neighbors(torch.rand(n, 2, generator=g) * 300, torch.tensor([0, n]), 12)
    return {
        "ligand": ligand,
        "receptor": receptor,
        "lig": lig,
        "rec": rec,
        "indptr": indptr,
        "indices": indices,
        "weight": torch.rand(indices.numel(), generator=g),
        "types": torch.randint(TYPES - 1, (n,), generator=g, dtype=torch.int32),
        "group": torch.randint(40, (PAIRS,), generator=g, dtype=torch.int32),
        "ptr": torch.arange(0, SUBUNITS + 1, 2),
        "subunits": torch.randint(GENES, (SUBUNITS,), generator=g, dtype=torch.int32),
        "head_weight": torch.randn(HEADS, PAIRS, generator=g),
        "slope": torch.randn(indices.numel(), HEADS, generator=g),
    }


def on(device: str, given: dict) -> dict:
    return {name: x.to(device) for name, x in given.items()}
