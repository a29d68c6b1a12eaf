"""Sparse expression x dense weight: 20,000 genes, width 256, forward and gradient of the weight."""

from functools import partial

from harness import Case

GENES, WIDTH = 20_000, 256


def inputs(n: int, per_cell: int) -> dict:
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    step = GENES // per_cell  # one gene of each stretch: ascending, and no gene twice
    genes = rng.integers(0, step, (n, per_cell), dtype=np.int32) + step * np.arange(per_cell, dtype=np.int32)
    values = rng.random(n * per_cell, dtype=np.float32)
    torch.manual_seed(0)
    return {
        "csr": (torch.arange(0, n * per_cell + 1, per_cell), torch.from_numpy(genes.ravel()), torch.from_numpy(values)),
        "shape": (n, GENES), "weight": torch.randn(GENES, WIDTH),
    }  # fmt: skip


def matrix(given: dict) -> object:
    from scipy.sparse import csr_matrix

    indptr, genes, values = (part.numpy() for part in given["csr"])
    return csr_matrix((values, genes, indptr), given["shape"])


def ours(given: dict) -> object:
    from metaniche.ops import csr_encoder

    return csr_encoder(*given["csr"], given["weight"])


def theirs(given: dict) -> object:
    import torch

    indptr, genes, values = given["csr"]
    return torch.sparse_csr_tensor(indptr, genes.long(), values, given["shape"]) @ given["weight"]


def scipy(given: dict) -> object:
    return matrix(given) @ given["weight"].numpy()


def our_gradient(given: dict) -> object:
    weight = given["weight"].clone().requires_grad_()
    ours(given | {"weight": weight}).sum().backward()
    return weight.grad


def scipy_gradient(given: dict) -> object:
    """Forward and gradient, as ours."""
    import numpy as np

    x = matrix(given)
    out = x @ given["weight"].numpy()
    return x.T @ np.ones_like(out)


def agreement(given: dict) -> dict[str, float]:
    out, other = ours(given).numpy(), scipy(given)
    return {"largest difference from scipy, of the largest entry": float(abs(out - other).max() / abs(other).max())}


def case(n: int, per_cell: int, growth: bool) -> Case:
    solvers = {"metaniche": ours}
    if n <= 100_000:
        solvers |= {"torch.sparse": theirs, "scipy": scipy}
    name = f"{n:,} cells, {per_cell} genes each"
    return Case(
        name, partial(inputs, n, per_cell), solvers, rounds=5 if n < 100_000 else 3, size=n,
        growth="sparse encoder" if growth else None, check=agreement if n == 10_000 else None,
    )  # fmt: skip


def gradient(n: int, per_cell: int) -> Case:
    solvers = {"metaniche": our_gradient, "scipy": scipy_gradient}
    return Case(f"forward and gradient, {n:,} cells", partial(inputs, n, per_cell), solvers, rounds=3, size=n)


CASES = [case(10_000, 200, True), case(100_000, 200, True), case(1_000_000, 200, True)]
CASES += [case(50_000, 1000, False), gradient(50_000, 200)]
