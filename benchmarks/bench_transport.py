"""transport beside COMMOT's loop: one pair, 20 % of the spots with mass, about 15 neighbours.

The loop (Cang et al. 2023, doi:10.1038/s41592-022-01728-4) is written out here, since `commot` does not install beside
NumPy 2. It stops as COMMOT does, by the change of its potentials or after 10,000 turns, and so may stop before it has
converged; the plans are compared at a penalty at which both converge.
"""

from functools import partial

from bench_neighbors import RADIUS, tissue
from harness import Case, Target

DENSITY, EPS, RHO, TURNS = 0.2, 0.1, 10.0, 10_000
LOW_RHO = 2.0  # both converge


def inputs(n: int, columns: int) -> dict:
    import numpy as np
    import torch

    from metaniche.ops import hilbert_order, radius_neighbors

    cells, rng = tissue(n), np.random.default_rng(1)
    pos = cells["pos"][hilbert_order(cells["pos"], cells["ptr"])].contiguous()
    masses = [np.log1p(rng.random((n, columns)) * 5) * (rng.random((n, columns)) < DENSITY) for _ in range(2)]
    pairs = torch.arange(columns)[:, None].repeat(1, 2)
    return {"problem": (*map(torch.from_numpy, masses), pairs, *radius_neighbors(pos, cells["ptr"], RADIUS))}


def ours(given: dict, rho: float = RHO) -> object:
    from metaniche.ops import transport

    return transport(*given["problem"], rho=rho)


def commot_loop(given: dict, rho: float = RHO, turns: int = TURNS, tolerance: float = 1e-8) -> tuple:
    """One pair; the plan is rebuilt by two exponentials per turn, in COO: (plan, senders, receivers)."""
    import numpy as np
    from scipy import sparse

    ligand, receptor, _, indptr, indices, cost = given["problem"]
    amount = max(ligand.sum(), receptor.sum()).item()
    a, b = (x[:, 0].numpy() / amount for x in (ligand, receptor))
    n, cost = len(a), cost.double().numpy() / float(cost.max())
    matrix = sparse.csr_array((cost + 1, indices.numpy(), indptr.numpy()), shape=(n, n))  # + 1: keeps zeros stored
    part = matrix[b > 0][:, a > 0].tocoo()
    sender, receiver = np.flatnonzero(a > 0)[part.col], np.flatnonzero(b > 0)[part.row]
    row, col, c, a, b = part.col, part.row, part.data - 1, a[a > 0], b[b > 0]
    f, g = np.zeros_like(a), np.zeros_like(b)

    def plan():
        return np.exp((f[row] + g[col] - c) / EPS)

    def change(new, old):
        return np.abs(new - old).max() / max(np.abs(new).max(), np.abs(old).max(), 1.0)

    for turn in range(turns + 1):
        f_old, g_old = f, g
        f = EPS * np.log(a) - EPS * np.log(np.bincount(row, plan(), len(a)) + np.exp((f - rho) / EPS)) + f
        g = EPS * np.log(b) - EPS * np.log(np.bincount(col, plan(), len(b)) + np.exp((g - rho) / EPS)) + g
        if turn % 10 == 0 and (change(f, f_old) + change(g, g_old)) / 2 < tolerance:
            break
    return plan() * amount, sender, receiver


def agreement(given: dict) -> dict[str, float]:
    """Difference of the two plans, summed over the edges, as a share of the amount that is sent."""
    import numpy as np

    indptr, indices = (x.numpy() for x in given["problem"][3:5])
    n = len(indptr) - 1
    place = {"plan, difference of the amount sent": LOW_RHO, "the same at the default penalty": RHO}
    found = {}
    for name, rho in place.items():
        loop, sender, receiver = commot_loop(given, rho, *((100_000, 1e-14) if rho == LOW_RHO else ()))
        solved = ours(given, rho)
        keys = np.repeat(np.arange(n), np.diff(indptr)) * n + indices
        dense = np.zeros(len(keys))
        dense[np.searchsorted(keys, receiver * n + sender)] = loop
        plan = solved.plan(0).numpy()
        found[name] = float(abs(plan - dense).sum() / plan.sum())
        found[f"marginal error of ours, rho {rho:g}"] = float(solved.marginal_error_S.max())
    return found


def one_pair(n: int) -> Case:
    solvers = {"metaniche": ours, "COMMOT's loop": commot_loop}
    targets, check = (), None
    if n == 2000:
        check = agreement
        targets = (
            Target("COMMOT's loop", "slower", 8),
            Target("plan, difference of the amount sent", "check", 1e-6),
        )
    name = f"1 pair, {n:,} spots"
    rounds = 5 if n <= 2000 else 3
    return Case(name, partial(inputs, n, 1), solvers, rounds, "transport", n, check, targets)


LARGE = Case(
    "50 pairs, 100,000 cells", partial(inputs, 100_000, 50), {"metaniche": ours}, rounds=3, size=100_000,
    targets=(Target("metaniche", "seconds", 60), Target("metaniche", "extra_mb", 4000)),
)  # fmt: skip
CASES = [*map(one_pair, (500, 2000, 8000, 20_000)), LARGE]
