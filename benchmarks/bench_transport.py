"""transport beside COMMOT's loop (its published update on a sparse cost matrix): JSON lines on standard output.

The peer is written out here because `commot` does not run with NumPy 2. It stops as COMMOT does, by the change of its
potentials or after 10,000 turns, and so may stop before it has converged.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
import torch
from scipy import sparse

from metaniche.ops import hilbert_order, radius_neighbors, transport

RADIUS_UM = 10 * (15 / np.pi) ** 0.5  # 15 neighbours at one cell per 10 x 10 um


def make_tissue(n: int, columns: int, density: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    pos = torch.from_numpy((rng.random((n, 2)) * np.sqrt(n) * 10).astype(np.float32))
    ptr = torch.tensor([0, n])
    pos = pos[hilbert_order(pos, ptr)].contiguous()
    masses = [np.log1p(rng.random((n, columns)) * 5) * (rng.random((n, columns)) < density) for _ in range(2)]
    pairs = torch.arange(columns)[:, None].repeat(1, 2)
    return (*map(torch.from_numpy, masses), pairs, *radius_neighbors(pos, ptr, RADIUS_UM))


def commot_loop(ligand, receptor, _, indptr, indices, cost, eps=0.1, rho=10.0, tolerance=1e-8, turns=10_000):
    """One pair; the plan is rebuilt by two exponentials per turn, in COO."""
    amount = max(ligand.sum(), receptor.sum()).item()
    a, b = (x[:, 0].numpy() / amount for x in (ligand, receptor))
    n, cost = len(a), cost.double().numpy() / float(cost.max())
    matrix = sparse.csr_array((cost + 1, indices.numpy(), indptr.numpy()), shape=(n, n))  # + 1: keeps zeros stored
    part = matrix[b > 0][:, a > 0].tocoo()
    row, col, c, a, b = part.col, part.row, part.data - 1, a[a > 0], b[b > 0]
    f, g = np.zeros_like(a), np.zeros_like(b)

    def plan():
        return np.exp((f[row] + g[col] - c) / eps)

    def change(new, old):
        return np.abs(new - old).max() / max(np.abs(new).max(), np.abs(old).max(), 1.0)

    for turn in range(turns + 1):
        f_old, g_old = f, g
        f = eps * np.log(a) - eps * np.log(np.bincount(row, plan(), len(a)) + np.exp((f - rho) / eps)) + f
        g = eps * np.log(b) - eps * np.log(np.bincount(col, plan(), len(b)) + np.exp((g - rho) / eps)) + g
        if turn % 10 == 0 and (change(f, f_old) + change(g, g_old)) / 2 < tolerance:
            break
    return turn, plan().sum() * amount


def measured(op: str, size: dict, call, repeats: int, **more) -> None:
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        json.dumps({"op": op, **size, "seconds": float(np.median(seconds)), "extra_mb": extra, **more, **told(result)})
    )


def told(result) -> dict:
    if isinstance(result, tuple):
        return {"turns": result[0], "amount": result[1]}
    return {
        "products": int(result.iterations_S.max()),
        "marginal_error": float(result.marginal_error_S.max()),
        "amount": float(result.amounts()[0].sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="*", default=[500, 2000, 20_000])
    parser.add_argument("--pairs", type=int, default=50, help="pairs of the largest run, without the peer")
    parser.add_argument("--large", type=int, default=100_000, help="cells of the largest run; 0 leaves it out")
    parser.add_argument("--density", type=float, default=0.2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for n in options.cells:
        problem, size = make_tissue(n, 1, options.density), {"cells": n, "pairs": 1, "density": options.density}
        measured("transport", size, lambda p=problem: transport(*p), options.repeats)
        measured("commot loop", size, lambda p=problem: commot_loop(*p), 1)
    if options.large:
        problem = make_tissue(options.large, options.pairs, options.density)
        size = {"cells": options.large, "pairs": options.pairs, "density": options.density}
        measured("transport", size, lambda: transport(*problem), 1)


if __name__ == "__main__":
    main()
