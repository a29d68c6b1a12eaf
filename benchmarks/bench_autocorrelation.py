"""Moran's I of 50 genes, and the bivariate Moran's R of 50 pairs of them, each with its closed-form null."""

from functools import partial

from bench_neighbors import K, tissue
from harness import Case

GENES = 50


def inputs(n: int) -> dict:
    import torch

    from metaniche.ops import hilbert_order, knn_neighbors

    cells = tissue(n)
    pos = cells["pos"][hilbert_order(cells["pos"], cells["ptr"])].contiguous()
    indptr, indices, distance = knn_neighbors(pos, cells["ptr"], K)
    x = torch.rand(n, GENES, generator=torch.Generator().manual_seed(0))
    return {"x": x, "graph": (indptr, indices, torch.ones_like(distance))}


def ours(given: dict) -> object:
    from metaniche.ops import moran

    return moran(given["x"], *given["graph"])


def our_pairs(given: dict) -> object:
    import torch

    from metaniche.ops import bivariate_moran

    pairs = torch.stack((torch.arange(GENES), torch.arange(GENES).roll(1)), 1)
    return bivariate_moran(given["x"], given["x"], pairs, *given["graph"])


def weights(given: dict) -> object:
    from scipy.sparse import csr_matrix

    indptr, indices, weight = (part.numpy() for part in given["graph"])
    return csr_matrix((weight, indices, indptr), (len(given["x"]),) * 2)


def annotated(given: dict) -> object:
    from anndata import AnnData

    adata = AnnData(given["x"].numpy(), obsp={"spatial_connectivities": weights(given)})
    adata.var_names = [f"g{k}" for k in range(GENES)]
    return adata


def scipy_statistic(given: dict) -> object:
    """The statistic alone, without moments."""
    z, matrix = given["x"].numpy() - given["x"].numpy().mean(0), weights(given)
    return len(z) / matrix.sum() * (z * (matrix @ z)).sum(0) / (z**2).sum(0)


def squidpy(given: dict) -> object:
    import squidpy as sq

    adata = annotated(given)
    return sq.gr.spatial_autocorr(
        adata, mode="moran", genes=list(adata.var_names), n_perms=None, copy=True, show_progress_bar=False
    )


def liana(given: dict) -> object:
    """Global scores alone: the closed form of its null takes N x N, more than a minute at 10,000 cells."""
    import liana as li

    pairs = [(f"g{k}", f"g{(k - 1) % GENES}") for k in range(GENES)]
    return li.mt.bivariate(
        annotated(given),
        local_name=None,
        global_name="morans",
        interactions=pairs,
        n_perms=None,
        use_raw=False,
        nz_prop=0,
    )


def agreement(given: dict) -> dict[str, float]:
    """Largest difference from scipy's statistic, of a number between -1 and 1."""
    return {"largest difference from scipy": float(abs(ours(given).statistic.numpy() - scipy_statistic(given)).max())}


def cases(n: int) -> list[Case]:
    own = {"metaniche": ours}
    two = {"metaniche": our_pairs}
    if n <= 100_000:
        own |= {"scipy, statistic alone": scipy_statistic, "squidpy": squidpy}
        two |= {"liana, statistic alone": liana}
    common = {"make": partial(inputs, n), "size": n}
    return [
        Case(f"Moran, {n:,} cells", solvers=own, growth="Moran", check=agreement, **common),
        Case(f"bivariate Moran, {n:,} cells", solvers=two, growth="bivariate Moran", **common),
    ]


CASES = [case for n in (10_000, 100_000, 1_000_000) for case in cases(n)]
