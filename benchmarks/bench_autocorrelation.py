"""Moran's I and its bivariate kin beside squidpy (where it can be imported) and scipy: JSON lines on standard output."""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import time

import numpy as np
import torch
from scipy import sparse

from metaniche.ops import bivariate_moran, geary, hilbert_order, knn_neighbors, moran


def make_tissue(cells: int, genes: int, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    pos, ptr = torch.rand(cells, 2, generator=rng) * cells**0.5 * 10, torch.tensor([0, cells])
    pos = pos[hilbert_order(pos, ptr)].contiguous()
    indptr, indices, distance = knn_neighbors(pos, ptr, 15)
    return torch.rand(cells, genes, generator=rng), (indptr, indices, torch.ones_like(distance))


def scipy_moran(x, graph):
    indptr, indices, weight = (part.numpy() for part in graph)
    matrix = sparse.csr_matrix((weight, indices, indptr), (len(x), len(x)))
    z = x.numpy() - x.numpy().mean(0)
    return len(x) / matrix.sum() * (z * (matrix @ z)).sum(0) / (z**2).sum(0)


def squidpy_moran(x, graph):
    import anndata
    import squidpy

    indptr, indices, weight = (part.numpy() for part in graph)
    adata = anndata.AnnData(x.numpy())
    adata.obsp["spatial_connectivities"] = sparse.csr_matrix((weight, indices, indptr), (len(x), len(x)))
    squidpy.gr.spatial_autocorr(adata, mode="moran", genes=list(adata.var_names), show_progress_bar=False)


def measured(op: str, size: dict, call, repeats: int) -> None:
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"op": op, **size, "seconds": float(np.median(seconds)), "extra_mb": extra}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--genes", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for n in options.cells:
        x, graph = make_tissue(n, options.genes)
        size = {"cells": n, "genes": options.genes, "edges": len(graph[1])}
        pairs = torch.arange(options.genes)[:, None].repeat(1, 2)
        measured("moran", size, lambda x=x, g=graph: moran(x, *g), options.repeats)
        measured("geary", size, lambda x=x, g=graph: geary(x, *g), options.repeats)
        measured("bivariate_moran", size, lambda x=x, g=graph, p=pairs: bivariate_moran(x, x, p, *g), options.repeats)
        measured("moran, scipy", size, lambda x=x, g=graph: scipy_moran(x, g), options.repeats)
        if importlib.util.find_spec("squidpy"):
            squidpy_moran(x[:1000], make_tissue(1000, options.genes)[1])  # compiles
            measured("moran, squidpy", size, lambda x=x, g=graph: squidpy_moran(x, g), options.repeats)


if __name__ == "__main__":
    main()
