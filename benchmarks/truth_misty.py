"""Known communication of in-silico tissues: which scores find the edges between cells. Prints a table for docs/benchmarks.md.

Ten tissues of Tanevski et al. 2022, doi:10.1186/s13059-022-02663-5 (saezlab/misty_pipelines), whose 110 possible `para`
edges between 11 species are known; 18 are there. METANICHE_MIRROR names the folder that holds the files.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.metrics import average_precision_score, roc_auc_score

from metaniche.graph import CellGraph, GraphConfig, build_graph
from metaniche.ops import LigandReceptor, bivariate_moran
from metaniche.signaling.csr import to_torch
from metaniche.signaling.nulls import position_null

SPECIES = ["ECM", "ligA", "ligB", "ligC", "ligD", "protE", "protF", "prodA", "prodB", "prodC", "prodD"]
RADIUS, LENGTH = 10.0, 5.0  # in cells of the grid; 20 and 10 give AUROC within 0.02 of these and the same order
LIANA_SCORES = ("morans", "lee", "cosine")


def main() -> None:
    warnings.filterwarnings("ignore")
    folder = Path(os.environ["METANICHE_MIRROR"]) / "saezlab" / "misty_pipelines"
    truth = pd.read_csv(next(folder.rglob("true_connections.csv")))
    truth = truth[(truth["view"] == "para") & truth["present"].notna()]
    pairs = [tuple(pair) for pair in truth[["node1", "node2"]].to_numpy()]
    rows = []
    for path in sorted(folder.rglob("random1_position_expression_real_cells.csv")):
        for name, score in scores(pd.read_csv(path), pairs).items():
            found = roc_auc_score(truth["present"], score), average_precision_score(truth["present"], score)
            rows.append((path.parent.name, name, *found))
    table = pd.DataFrame(rows, columns=["tissue", "score", "AUROC", "AUPRC"])
    print(
        f"{table['tissue'].nunique()} tissues, {len(pairs)} pairs, {int(truth['present'].sum())} there; mean (range)\n"
    )
    print("| score | AUROC | AUPRC |\n|---|---|---|")
    for name, of_score in table.groupby("score", sort=False):
        cells = [
            f"{of_score[c].mean():.2f} ({of_score[c].min():.2f} to {of_score[c].max():.2f})" for c in ("AUROC", "AUPRC")
        ]
        print(f"| {name} | {cells[0]} | {cells[1]} |")


def scores(cells: pd.DataFrame, pairs: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Name of a score -> (pairs,) values; larger says more that the pair communicates."""
    x = cells[SPECIES].to_numpy(np.float64)
    pos = torch.from_numpy(cells[["row", "col"]].to_numpy(np.float32))
    config = GraphConfig(contact_um=1.5, radius_um=RADIUS, max_paracrine=None)
    graph = build_graph(pos, torch.tensor([0, len(cells)]), config)
    weight = torch.exp(-graph.distance_um / LENGTH)
    place = torch.tensor([[SPECIES.index(name) for name in pair] for pair in pairs])
    far, near = (column.to(torch.int32).contiguous() for column in place.unbind(1))
    problem = LigandReceptor(to_torch(x), to_torch(x), far, near, graph.indptr, graph.indices, weight)
    types = pd.Categorical(cells["type"])
    null = position_null(problem, torch.from_numpy(types.codes.astype(np.int32)), len(types.categories))
    beyond = (null.score - null.mean).sum((0, 1)) / np.sqrt(null.variance.sum((0, 1)))
    moran = bivariate_moran(
        torch.from_numpy(x), torch.from_numpy(x), place, graph.indptr, graph.indices, weight.double()
    )
    neighbours = _matrix(graph, torch.ones_like(weight))
    naive = np.einsum("np,np->p", x[:, near.numpy()], (neighbours @ x)[:, far.numpy()])
    return {
        "product over neighbours (naive)": naive,
        "product weighted by distance": null.score.sum((0, 1)),
        "metaniche, beyond its null of positions within types (z)": beyond,
        "metaniche, bivariate Moran's R": moran.statistic.numpy(),
        **_liana(cells, _matrix(graph, weight), pairs),
    }


def _matrix(graph: CellGraph, weight: torch.Tensor) -> sparse.csr_matrix:
    return sparse.csr_matrix((weight.numpy(), graph.indices.numpy(), graph.indptr.numpy()), shape=(graph.n_cells,) * 2)


def _liana(cells: pd.DataFrame, weight: sparse.csr_matrix, pairs: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """Means of LIANA's local scores, for each that it has; none where it is not installed."""
    try:
        import liana
    except ImportError:
        return {}
    adata = anndata.AnnData(
        sparse.csr_matrix(cells[SPECIES].to_numpy(np.float32)), obsp={"spatial_connectivities": weight}
    )
    adata.var_names = SPECIES
    found = {}
    for name in LIANA_SCORES:
        out = liana.mt.bivariate(
            adata, local_name=name if name == "cosine" else "morans", global_name=None if name == "cosine" else name,
            interactions=pairs, n_perms=None, use_raw=False, nz_prop=0, add_categories=False,
        ).var.set_index(["ligand", "receptor"])  # fmt: skip
        found[f"LIANA, {name}"] = out.loc[pairs, "mean" if name == "cosine" else name].to_numpy(float)
    return found


if __name__ == "__main__":
    main()
