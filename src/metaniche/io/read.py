"""One sample file -> AnnData: h5ad, AnnData zarr, or the table of a SpatialData zarr."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.containers import MAX_BYTES, check_h5, check_zarr
from metaniche.io.matrices import check_compressed
from metaniche.io.wording import listed, reason, refusal
from metaniche.io.write import SUFFIXES


def read_sample(path: str | Path, *, max_bytes: int = MAX_BYTES) -> AnnData:
    """Read one sample into memory.

    Parameters
    ----------
    path
        A `.h5ad` file, or a `.zarr` folder written by AnnData or SpatialData.
    max_bytes
        Upper bound on the bytes that the file's arrays claim.

    Returns
    -------
    The AnnData as stored. Of a SpatialData store: its table, with `obsm["spatial"]` from the centroids of the annotated
    region when the table has none. Whether the content makes sense is the question of `io.guards.check_sample`.

    Raises InputError for a file that is absent, unsafe, damaged, or of another kind.
    """
    path = Path(path)
    _check_file(path, max_bytes)
    if path.suffix == ".h5ad":
        adata = _read(path, anndata.read_h5ad)
    else:
        adata = _read_spatialdata(path) if _is_spatialdata(path) else _read(path, anndata.read_zarr)
    _check_stored_matrices(adata, path)
    return adata


def read_obs(path: str | Path, *, max_bytes: int = MAX_BYTES) -> pd.DataFrame:
    """The `obs` of `read_sample`, without the rest of the file where it can be read alone. Raises InputError likewise."""
    path = Path(path)
    _check_file(path, max_bytes)
    obs = _read(path, _obs_of_h5) if path.suffix == ".h5ad" else None
    # Files of anndata before 0.7 have it in another form.
    return obs if isinstance(obs, pd.DataFrame) else read_sample(path, max_bytes=max_bytes).obs


def _obs_of_h5(path: Path) -> object:
    with h5py.File(path) as file:
        return anndata.io.read_elem(file["obs"])


def _check_file(path: Path, max_bytes: int) -> None:
    """Raise InputError for what is not there, is unsafe, or is no sample."""
    if not path.exists():
        raise refusal(path, expected="a sample file", found="no such file or folder", fix="Check the path.")
    if path.suffix == ".h5ad" and path.is_file():
        check_h5(path, max_bytes)
    elif path.suffix == ".zarr" and path.is_dir():
        check_zarr(path, max_bytes)
    else:
        kind = "a folder" if path.is_dir() else "a file"
        raise refusal(
            path,
            expected=f"a .h5ad file or a .zarr folder (one of {SUFFIXES})",
            found=f"{kind} with suffix {path.suffix!r}",
            fix="Convert it with anndata: adata.write_h5ad('sample.h5ad').",
        )


def in_memory(adata: AnnData) -> AnnData:
    """A copy to work on; what a backed AnnData has in its file is read."""
    return adata.to_memory() if adata.isbacked else adata.copy()


def _read(path: Path, reader) -> AnnData:
    try:
        return reader(path)
    except Exception as error:
        raise refusal(
            path,
            expected="an AnnData",
            found=reason(error),
            fix="The file is damaged or was not written by anndata; save it again from its source.",
        ) from error


def _check_stored_matrices(adata: AnnData, path: Path) -> None:
    """Sparse matrices are taken from disk as they are; an index out of range would be read past the end of an array."""
    stored = {"X": adata.X} | {f"layers[{k!r}]": v for k, v in adata.layers.items()}
    for name in ("obsm", "obsp"):
        stored |= {f"{name}[{k!r}]": v for k, v in getattr(adata, name).items()}
    if adata.raw is not None:
        stored["raw.X"] = adata.raw.X
    for key, matrix in stored.items():
        check_compressed(matrix, where=path, key=key)


def _is_spatialdata(path: Path) -> bool:
    attributes: dict = {}
    for name in ("zarr.json", ".zattrs"):
        if (path / name).is_file():
            content = json.loads((path / name).read_text(encoding="utf-8"))
            own = content.get("attributes", content) if isinstance(content, dict) else None
            attributes |= own if isinstance(own, dict) else {}
    if attributes.get("encoding-type") == "anndata":
        return False
    return "spatialdata_attrs" in attributes or any((path / name).is_dir() for name in ("tables", "table"))


def _read_spatialdata(path: Path) -> AnnData:
    try:
        import spatialdata
    except ImportError as error:
        raise refusal(
            path,
            expected="the optional package spatialdata, because this is a SpatialData store",
            found="it is not installed",
            fix="Install it: pip install 'metaniche[spatialdata]'.",
        ) from error
    store = _read(path, spatialdata.read_zarr)
    if len(store.tables) != 1:
        raise refusal(
            path,
            expected="one table",
            found=f"{len(store.tables)}: {listed(list(store.tables))}",
            fix="Save the table of this sample alone, or write it as h5ad.",
        )
    table = next(iter(store.tables.values()))
    if keys.SPATIAL not in table.obsm:
        table.obsm[keys.SPATIAL] = _centroids(path, store, table, spatialdata.get_centroids)
    return table


def _centroids(path: Path, store, table: AnnData, get_centroids) -> np.ndarray:
    """(N, 2 or 3) centroids of the table's region, in the coordinate system "global" and the order of the rows."""
    link = table.uns.get("spatialdata_attrs", {})
    region = link.get("region")
    regions = [region] if isinstance(region, str) else list(region or ())
    if len(regions) != 1 or regions[0] not in store:
        raise refusal(
            path,
            expected="a table that annotates one region of the store, or has obsm['spatial']",
            found=f"regions {listed(regions)}",
            fix="Store the cell centres in table.obsm['spatial'].",
        )
    centres = get_centroids(store[regions[0]]).compute()
    instances = table.obs[link["instance_key"]]
    unknown = instances[~instances.isin(centres.index)]
    if len(unknown):
        raise InputError(
            f"{path}: expected every cell of the table in region {regions[0]!r}, found {len(unknown)} that are not: "
            f"{listed(list(unknown))}. Match the table to its region with spatialdata.match_table_to_element."
        )
    return centres.loc[instances, [axis for axis in "xyz" if axis in centres]].to_numpy()
