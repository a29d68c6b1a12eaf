"""COMMOT (Cang et al. 2023, doi:10.1038/s41592-022-01728-4) for the scripts beside this one: arrays in, edges out.

Runs in a Python of its own, since `commot` needs NumPy below 2: `python commot_worker.py TASK IN.npz OUT.npz` with TASK

- communicate: `commot.tl.spatial_communication` at its defaults: x (N, G), genes, pos_um, ligands, receptors, reach_um;
- transport: its solver `cot_sparse`: supply (N, L), demand (N, R), pairs (P, 2) columns, cost (N, N), infinite where nothing
  may go, sender first; reach_um, eps, rho, turns, stop.

OUT holds pair, sender, receiver and amount of every edge, and the seconds that it took. Imports neither metaniche nor this
folder, and runs on Python 3.10.
"""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

INSTALL = 'python3.10 -m venv .venv-commot && .venv-commot/bin/pip install "numpy<2" commot==0.0.3'
HINT = f"COMMOT is left out: set COMMOT_PYTHON to a Python that has it, made by `{INSTALL}`."


def run(task: str, **arrays) -> dict[str, np.ndarray] | None:
    """What COMMOT_PYTHON makes of these arrays; None where the variable is not set."""
    python = os.environ.get("COMMOT_PYTHON")
    if not python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **arrays)
        subprocess.run([python, "-W", "ignore", __file__, task, given, found], check=True)
        with np.load(found) as out:
            return dict(out)


def communicate(given) -> list:
    import anndata
    import commot
    import pandas as pd
    from scipy import sparse

    adata = anndata.AnnData(sparse.csr_matrix(given["x"]), var=pd.DataFrame(index=given["genes"].tolist()))
    adata.obsm["spatial"] = given["pos_um"]
    pairs = list(zip(given["ligands"].tolist(), given["receptors"].tolist()))
    table = pd.DataFrame([(*pair, "all") for pair in pairs])
    commot.tl.spatial_communication(adata, database_name="db", df_ligrec=table, dis_thr=float(given["reach_um"]))
    return [adata.obsp[f"commot-db-{ligand}-{receptor}"] for ligand, receptor in pairs]


def transport(given) -> list:
    from commot._optimal_transport import cot_sparse

    supply, demand, pairs = given["supply"], given["demand"], [tuple(pair) for pair in given["pairs"].tolist()]
    coefficient = np.full((supply.shape[1], demand.shape[1]), np.inf)
    for pair in pairs:
        coefficient[pair] = 1.0
    eps, rho, stop = (float(given[name]) for name in ("eps", "rho", "stop"))
    reach = np.full_like(coefficient, float(given["reach_um"]))
    plans = cot_sparse(
        supply,
        demand,
        coefficient,
        given["cost"],
        reach,
        eps_p=eps,
        rho=rho,
        nitermax=int(given["turns"]),
        stopthr=stop,
    )
    return [plans[pair] for pair in pairs]


def main() -> None:
    warnings.filterwarnings("ignore")
    task, given, found = sys.argv[1:]
    solver, arrays = {"communicate": communicate, "transport": transport}[task], dict(np.load(given))
    import commot  # noqa: F401 - not a part of the seconds

    started = time.perf_counter()
    plans = [plan.tocoo() for plan in solver(arrays)]
    seconds = time.perf_counter() - started
    pair = np.repeat(np.arange(len(plans)), [plan.nnz for plan in plans])
    columns = {"sender": "row", "receiver": "col", "amount": "data"}
    edges = {name: np.concatenate([getattr(plan, field) for plan in plans]) for name, field in columns.items()}
    np.savez(found, pair=pair, seconds=seconds, **edges)


if __name__ == "__main__":
    main()
