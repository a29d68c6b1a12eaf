"""Signals of the whole consensus resource between 30 types, with their closed-form null; and agreement with the peers."""

from functools import partial

from bench_neighbors import K, tissue
from harness import Case, Target

TYPES, DENSITY = 30, 0.1
AGREEMENT = "the same as LIANA and squidpy, 3,000 cells"


def inputs(n: int) -> dict:
    """Genes of LIANA's consensus at 10 % density, 15 neighbours a cell, types in patches."""
    import numpy as np
    import pandas as pd
    import torch
    from scipy import sparse

    from metaniche.graph import GraphConfig, build_graph
    from metaniche.ops import hilbert_order
    from metaniche.signaling import read_liana

    resource = read_liana("consensus")
    genes = sorted(resource.genes)
    cells = tissue(n)
    pos = cells["pos"][hilbert_order(cells["pos"], cells["ptr"])].contiguous()
    graph = build_graph(pos, cells["ptr"], GraphConfig(builder="knn", k=K))
    rng = np.random.default_rng(0)
    per_cell = rng.binomial(len(genes), DENSITY, n)
    pointer = np.concatenate(([0], per_cell.cumsum()))
    columns = rng.integers(0, len(genes), pointer[-1], dtype=np.int32)
    values = rng.exponential(1.0, pointer[-1]).astype(np.float32)
    x = sparse.csr_array((values, columns, pointer), shape=(n, len(genes)))
    x.sum_duplicates()
    field = torch.sin(pos[:, 0] / 150) + torch.cos(pos[:, 1] / 150) + 0.5 * torch.from_numpy(rng.normal(size=n))
    codes = (field.argsort().argsort() * TYPES // n).numpy()
    types = pd.Categorical.from_codes(codes, [f"t{k:02d}" for k in range(TYPES)])
    return {"signals": (x, genes, types, graph, resource)}


def ours(given: dict) -> object:
    from metaniche.signaling import communicate

    return communicate(*given["signals"])


def estimate(given: dict) -> dict[str, float]:
    """What is said before the run, for the peak of memory beside it."""
    from metaniche.signaling import estimate_memory

    x, _, types, graph, resource = given["signals"]
    needed = estimate_memory(len(types), graph.n_edges, x.nnz, len(types.categories), len(resource.pairs))
    return {"memory said before, MB": needed / 1e6}


def small(n: int = 3000) -> dict:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 6, n)
    x = sparse.csr_matrix(np.log1p(rng.poisson(0.05 + rng.gamma(0.7, 1.0, (6, 60))[codes])).astype(np.float32))
    obs = pd.DataFrame({"type": pd.Categorical([f"t{k}" for k in codes])}, index=[str(i) for i in range(n)])
    adata = AnnData(x, obs, pd.DataFrame(index=[f"G{k}" for k in range(60)]))
    adata.obsm["spatial"] = rng.random((n, 2)) * 1000
    return {"adata": adata, "codes": codes, "pairs": [(f"G{k}", f"G{k + 30}") for k in range(30)]}


def cluster_means(given: dict) -> object:
    """Scores and 1,000 permutations of CellPhoneDB's statistic."""
    from metaniche.ops import cluster_means_permutations

    return cluster_means_permutations(*_labels(given), 1000, seed=1)


def exact_means(given: dict) -> object:
    """Scores that are not rounded, with the closed form of their null."""
    from metaniche.ops import cluster_means_null

    return cluster_means_null(*_labels(given))


def agreement(given: dict) -> dict[str, float]:
    """Largest differences to LIANA and squidpy, and of p-values their root mean square in Monte Carlo errors."""
    import numpy as np

    p = cluster_means(given).p_value.numpy()
    score = exact_means(given).score.numpy() / 2  # they halve the sum of the two means
    out = {}
    for name, peer in (("squidpy", _squidpy), ("liana", _liana)):
        rows = peer(given)
        there = tuple(np.array([key for *key, _, _ in rows]).T)
        means, values = (np.array([row[k] for row in rows]) for k in (3, 4))
        error = np.sqrt(np.maximum(2 * values * (1 - values) / 1000, 1e-6))
        out[f"{name} means, largest difference"] = float(np.abs(score[there] - means).max())
        out[f"{name} p, rms in Monte Carlo errors"] = float(np.sqrt(np.mean(((p[there] - values) / error) ** 2)))
    return out | {"liana bivariate Moran, largest difference": _moran(given)}


def _labels(given: dict) -> tuple:
    import torch

    from metaniche.signaling.csr import to_torch

    lig = torch.arange(30, dtype=torch.int32)
    return to_torch(given["adata"].X), torch.from_numpy(given["codes"]).to(torch.int32), 6, lig, lig + 30


def _squidpy(given: dict) -> list[tuple]:
    import squidpy

    found = squidpy.gr.ligrec(
        given["adata"], "type", interactions=given["pairs"], n_perms=1000, use_raw=False, copy=True, threshold=0,
        corr_method=None, seed=0, n_jobs=1, show_progress_bar=False,
    )  # fmt: skip
    names = [f"t{k}" for k in range(6)]
    return [
        (a, b, k, found["means"].loc[pair, (names[a], names[b])], found["pvalues"].loc[pair, (names[a], names[b])])
        for k, pair in enumerate(given["pairs"])
        for a in range(6)
        for b in range(6)
    ]


def _liana(given: dict) -> list[tuple]:
    import liana

    adata = given["adata"].copy()
    del adata.obsm["spatial"]  # with it, LIANA weights the means by the proximity of types
    liana.mt.cellphonedb(
        adata,
        groupby="type",
        interactions=given["pairs"],
        use_raw=False,
        expr_prop=0,
        n_perms=1000,
        seed=0,
        key_added="found",
    )
    place = {pair: k for k, pair in enumerate(given["pairs"])}
    return [
        (int(r.source[1:]), int(r.target[1:]), place[r.ligand, r.receptor], r.lr_means, r.cellphone_pvals)
        for r in adata.uns["found"].itertuples()
    ]


def _moran(given: dict) -> float:
    import liana
    import numpy as np
    import torch

    from metaniche.ops import bivariate_moran

    adata = given["adata"].copy()
    liana.ut.spatial_neighbors(adata, bandwidth=100, cutoff=0.1, kernel="gaussian", set_diag=False)
    weight = adata.obsp["spatial_connectivities"].tocsr()
    weight.sort_indices()
    theirs = liana.mt.bivariate(
        adata,
        local_name="morans",
        global_name="morans",
        interactions=given["pairs"],
        n_perms=None,
        use_raw=False,
        nz_prop=0,
    )
    x = torch.from_numpy(adata.X.toarray().astype(np.float64))
    parts = torch.from_numpy(weight.indptr.astype(np.int64)), torch.from_numpy(weight.indices.astype(np.int32))
    pairs = torch.stack((torch.arange(30), torch.arange(30) + 30), 1)
    ours = bivariate_moran(x, x, pairs, *parts, torch.from_numpy(weight.data.astype(np.float64))).statistic.numpy()
    table = theirs.var.set_index(["ligand", "receptor"])
    return float(np.abs(ours - table.loc[given["pairs"], "morans"].to_numpy()).max())


def scored(n: int) -> Case:
    targets = (Target("closed form", "extra_mb", 16_000),) if n == 1_000_000 else ()
    return Case(
        f"communicate, {n:,} cells", partial(inputs, n), {"closed form": ours}, 3, "communication", n, estimate, targets
    )


CASES = [
    scored(10_000),
    scored(100_000),
    scored(1_000_000),
    Case(
        AGREEMENT, small, {"1000 permutations": cluster_means}, 3, size=3000, check=agreement,
        targets=(
            Target("squidpy means, largest difference", "check", 1e-6),
            Target("liana means, largest difference", "check", 1e-5),  # LIANA adds in float32
            Target("liana bivariate Moran, largest difference", "check", 1e-6),
        ),
    ),
]  # fmt: skip
