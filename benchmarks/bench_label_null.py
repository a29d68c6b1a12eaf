"""Nulls of cell type labels: 30 types, 1,200 genes at 10 % density, 2,000 pairs, 1,000 permutations; enrichment."""

from functools import partial

from bench_neighbors import tissue
from harness import Case, Target

TYPES, GENES, PAIRS, PERMUTATIONS, DENSITY = 30, 1200, 2000, 1000, 0.1
RADIUS_UM = 22.0
PEER = "squidpy ligrec"


def inputs(n: int) -> dict:
    import torch

    g = torch.Generator().manual_seed(0)
    x = torch.log1p(5 * torch.rand(n, GENES, generator=g))
    x *= torch.rand(n, GENES, generator=g) < DENSITY
    types = torch.randint(TYPES, (n,), generator=g, dtype=torch.int32)
    lig = torch.randint(0, GENES // 2, (PAIRS,), generator=g, dtype=torch.int32)
    rec = torch.randint(GENES // 2, GENES, (PAIRS,), generator=g, dtype=torch.int32)
    return {"labels": (x, types, TYPES, lig, rec)}


def graph(n: int, along_curve: bool = False) -> dict:
    """Cells in random order, as files have them, or along a Hilbert curve, as CellGraph keeps them."""
    import torch

    from metaniche.ops import hilbert_order, radius_neighbors

    cells = tissue(n)
    pos = cells["pos"][hilbert_order(cells["pos"], cells["ptr"])].contiguous() if along_curve else cells["pos"]
    indptr, indices, _ = radius_neighbors(pos, cells["ptr"], RADIUS_UM)
    types = torch.randint(TYPES, (n,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    return {"graph": (indptr, indices, types, TYPES)}


def closed_form(given: dict) -> object:
    from metaniche.ops import cluster_means_null

    return cluster_means_null(*given["labels"])


def permutations(given: dict, stop_after: int | None = None) -> object:
    from metaniche.ops import cluster_means_permutations

    return cluster_means_permutations(*given["labels"], PERMUTATIONS, stop_after=stop_after)


def enrichment(given: dict) -> object:
    from metaniche.ops import neighborhood_enrichment

    return neighborhood_enrichment(*given["graph"])


def annotated(types: object, x: object = None) -> object:
    import anndata
    import numpy as np
    import pandas as pd
    from scipy.sparse import csr_matrix

    n = len(types)
    obs = pd.DataFrame(
        {"type": pd.Categorical([f"t{t:02d}" for t in types.tolist()])}, index=[str(i) for i in range(n)]
    )
    adata = anndata.AnnData(csr_matrix(np.zeros((n, 1), np.float32) if x is None else x.numpy()), obs=obs)
    adata.var_names = [f"g{k}" for k in range(adata.n_vars)]
    return adata


def squidpy_ligrec(given: dict) -> object:
    import pandas as pd
    import squidpy

    x, types, _, lig, rec = given["labels"]
    pairs = pd.DataFrame({"source": [f"g{k}" for k in lig.tolist()], "target": [f"g{k}" for k in rec.tolist()]})
    return squidpy.gr.ligrec(
        annotated(types, x), cluster_key="type", interactions=pairs.drop_duplicates(), n_perms=PERMUTATIONS,
        use_raw=False, copy=True, threshold=0.01, show_progress_bar=False, n_jobs=2, seed=0,
    )  # fmt: skip


def squidpy_enrichment(given: dict) -> object:
    import numpy as np
    import squidpy
    from scipy.sparse import csr_matrix

    indptr, indices, types, _ = given["graph"]
    adata = annotated(types)
    ones = np.ones(len(indices), np.float32)
    adata.obsp["spatial_connectivities"] = csr_matrix((ones, indices.numpy(), indptr.numpy()), shape=(len(types),) * 2)
    return squidpy.gr.nhood_enrichment(
        adata, cluster_key="type", n_perms=PERMUTATIONS, seed=0, copy=True, show_progress_bar=False
    )


def first_cells(given: dict) -> dict:
    """Enough for numba to compile what squidpy runs."""
    x, types, *rest = given["labels"]
    return {"labels": (x[:2000], types[:2000], *rest)}


def tails(given: dict) -> dict[str, float]:
    """The closed form's p-values in the tail below 0.05 beside those of 20,000 permutations, as log10 ratios."""
    import numpy as np

    from metaniche.ops import cluster_means_permutations

    ours = closed_form(given).p_value.numpy().ravel()
    drawn = cluster_means_permutations(*given["labels"], 20_000).p_value.numpy().ravel()
    tail = (drawn < 0.05) & (drawn > 100 / 20_000)  # below, the permutations' own noise is more than 10 %
    low, middle, high = np.quantile(np.log10(ours[tail] / drawn[tail]), [0.05, 0.5, 0.95])
    return {
        "tail, log10 ratio, 5 %": float(low), "tail, log10 ratio, median": float(middle),
        "tail, log10 ratio, 95 %": float(high), "on two sides of 0.05": float(((ours < 0.05) != (drawn < 0.05)).mean()),
    }  # fmt: skip


def scores(n: int, peers: bool) -> Case:
    solvers = {
        "1000 permutations": permutations,
        "stopped after 20": partial(permutations, stop_after=20),
        "closed form": closed_form,
    }
    if peers:
        solvers[PEER] = squidpy_ligrec
    name = f"cluster means, {n:,} cells"
    targets, check = (), tails if n == 10_000 else None
    if n == 100_000:
        targets = Target(PEER, "slower", 15), Target(PEER, "slower", 100, than="closed form")
    return Case(name, partial(inputs, n), solvers, 3, "label permutations", n, check, targets, first_cells)


def enriched(n: int, along_curve: bool = False) -> Case:
    solvers = {"closed form": enrichment}
    targets = ()
    if n <= 100_000:
        solvers["squidpy nhood_enrichment"] = squidpy_enrichment
    if n == 100_000:
        targets = (Target("squidpy nhood_enrichment", "slower", 100),)
    name = f"enrichment, {n:,} cells" + (" along a Hilbert curve" if along_curve else "")
    growth = None if along_curve else "enrichment"
    return Case(name, partial(graph, n, along_curve), solvers, growth=growth, size=n, targets=targets)


CASES = [scores(10_000, True), scores(100_000, True), *map(enriched, (10_000, 100_000, 1_000_000))]
CASES += [enriched(100_000, along_curve=True)]
