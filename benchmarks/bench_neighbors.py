"""Neighbour search: uniform tissue at 15 neighbours per cell, cells in random order, as files have them."""

from functools import partial

import numpy as np
from harness import Case, Target

K = 15
DENSITY = 0.01  # cells per um^2
RADIUS = float(np.sqrt(K / np.pi / DENSITY))

EIGHT_GB = (Target("metaniche", "extra_mb", 8000),)
KNN_TARGETS = {
    1_000_000: (Target("cKDTree, 2 workers", "slower", 8), Target("squidpy", "slower", 25)),
    10_000_000: EIGHT_GB,
}
RADIUS_TARGETS = {
    1_000_000: (Target("cKDTree", "slower", 6), Target("squidpy", "slower", 50)),
    10_000_000: EIGHT_GB,
}


def tissue(n: int) -> dict:
    import torch

    pos = np.random.default_rng(0).uniform(0, np.sqrt(n / DENSITY), (n, 2)).astype(np.float32)
    return {"pos": torch.from_numpy(pos), "ptr": torch.tensor([0, n])}


def few(x: dict) -> dict:
    """The first cells alone, for the warm-up."""
    pos = x["pos"][:10_000]
    return {"pos": pos, "ptr": x["ptr"].clamp(max=len(pos))}


def our_knn(x: dict) -> object:
    from metaniche.ops import knn_neighbors

    return knn_neighbors(x["pos"], x["ptr"], K)


def our_radius(x: dict) -> object:
    from metaniche.ops import radius_neighbors

    return radius_neighbors(x["pos"], x["ptr"], RADIUS)


def tree_knn(x: dict) -> object:
    from scipy.spatial import cKDTree

    return cKDTree(x["pos"].numpy()).query(x["pos"].numpy(), K + 1, workers=2)


def tree_radius(x: dict) -> object:
    from scipy.spatial import cKDTree

    tree = cKDTree(x["pos"].numpy())
    return tree.sparse_distance_matrix(tree, RADIUS, output_type="coo_matrix")


def sklearn_knn(x: dict) -> object:
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=K, n_jobs=2).fit(x["pos"].numpy()).kneighbors_graph(mode="distance")


def squidpy(x: dict, **options: object) -> object:
    import squidpy as sq
    from anndata import AnnData

    adata = AnnData(np.zeros((len(x["pos"]), 1), np.float32), obsm={"spatial": x["pos"].numpy()})
    sq.gr.spatial_neighbors(adata, coord_type="generic", **options)
    return adata.obsp["spatial_distances"]


def cases(n: int) -> list[Case]:
    common = {"make": partial(tissue, n), "size": n, "warm": few}
    peers = n <= 1_000_000
    knn = {"metaniche": our_knn, "cKDTree, 2 workers": tree_knn} | (
        {"scikit-learn": sklearn_knn, "squidpy": partial(squidpy, n_neighs=K)} if peers else {}
    )
    radius = {"metaniche": our_radius} | (
        {"cKDTree": tree_radius, "squidpy": partial(squidpy, radius=RADIUS)} if peers else {}
    )
    rounds = 5 if n <= 100_000 else 3
    return [
        Case(f"kNN, {n:,} cells", solvers=knn, growth="kNN", rounds=rounds, targets=KNN_TARGETS.get(n, ()), **common),
        Case(
            f"radius, {n:,} cells", solvers=radius, growth="radius", rounds=rounds,
            targets=RADIUS_TARGETS.get(n, ()), **common,
        ),
    ]  # fmt: skip


CASES = [case for n in (10_000, 100_000, 1_000_000, 10_000_000) for case in cases(n)]
