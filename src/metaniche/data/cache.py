"""Prepared samples on disk: safetensors (memory-mapped), parquet and json; never pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy import sparse

from metaniche.data.sample import PreparedSample
from metaniche.errors import InputError
from metaniche.graph import CellGraph
from metaniche.io import keys
from metaniche.io.write import replacing

TENSORS, CELLS, ABOUT = "tensors.safetensors", "cells.parquet", "sample.json"
_GRAPH = "graph."


def save_sample(
    folder: Path, sample: PreparedSample, source: dict | None = None, found_types: Sequence[str] | None = None
) -> Path:
    """Write one sample into a folder of its own below `folder`, all of it or nothing.

    `source` (plain values) tells what the sample was made from; `is_saved` compares it. `found_types` are the names of
    cell types in the source, for `read_about`.
    """
    target = sample_folder(folder, sample.sample_id)

    def others_is_the_same() -> bool:
        """Another process may have been faster: both wrote the same content."""
        return source is not None and is_saved(folder, sample.sample_id, source)

    try:
        with replacing(target, leave=others_is_the_same) as temporary:
            temporary.mkdir()
            _write(temporary, sample, source, found_types)
    except OSError:
        if not others_is_the_same():
            raise
    return target


def load_sample(folder: Path, sample_id: str) -> PreparedSample:
    """Read one sample back. Raises InputError when its files are absent or damaged, and says how to make them anew."""
    source = sample_folder(folder, sample_id)
    try:
        about = read_about(folder, sample_id)
        tensors = load_file(source / TENSORS)
        graph = {n.removeprefix(_GRAPH): t for n, t in tensors.items() if n.startswith(_GRAPH)}
        cells = pd.read_parquet(source / CELLS)
        return PreparedSample(
            sample_id=about["sample_id"],
            patient_id=about["patient_id"],
            graph=CellGraph(**graph, relation_names=tuple(about["relation_names"])),
            x=_matrix(tensors, about["n_cells"], len(about["features"])),
            features=tuple(about["features"]),
            feature_kind=about["feature_kind"],
            cells=cells,
            file_order=tensors["file_order"].numpy(),
        )
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{source}: expected a prepared sample, found {type(error).__name__}: {error}. Delete this folder; the next "
            "run prepares it anew."
        ) from error


def read_about(folder: Path, sample_id: str) -> dict:
    """The json of one sample: ids, sizes, feature names."""
    return json.loads((sample_folder(folder, sample_id) / ABOUT).read_text())


def is_saved(folder: Path, sample_id: str, source: dict | None = None) -> bool:
    """Whether the sample is there and was made from `source`. It is moved into place whole: its json is enough."""
    if not (sample_folder(folder, sample_id) / ABOUT).is_file():
        return False
    return source is None or read_about(folder, sample_id).get("source") == source


def sample_folder(folder: Path, sample_id: str) -> Path:
    """Where a sample lies: a name of its own for every id, inside `folder` whatever the id holds."""
    return Path(folder) / quote(sample_id, safe=" ").replace(".", "%2E")


def _write(folder: Path, sample: PreparedSample, source: dict | None, found_types: Sequence[str] | None) -> None:
    tensors = {_GRAPH + name: tensor.contiguous() for name, tensor in sample.graph.tensors().items()}
    tensors |= _matrix_tensors(sample.x) | {"file_order": torch.from_numpy(sample.file_order.astype(np.int64))}
    save_file(tensors, folder / TENSORS)
    sample.cells.to_parquet(folder / CELLS)
    about = {
        "sample_id": sample.sample_id,
        "patient_id": sample.patient_id,
        "feature_kind": sample.feature_kind,
        "features": list(sample.features),
        "relation_names": list(sample.graph.relation_names),
        "n_cells": sample.n_cells,
        "n_edges": sample.graph.n_edges,
        "source": source,
        keys.FOUND_TYPES: None if found_types is None else list(found_types),
    }
    (folder / ABOUT).write_text(json.dumps(about))


def _matrix_tensors(x: np.ndarray | sparse.csr_array) -> dict[str, torch.Tensor]:
    if sparse.issparse(x):
        return {
            "x.data": torch.from_numpy(x.data.astype(np.float32)),
            "x.indices": torch.from_numpy(x.indices.astype(np.int32)),
            "x.indptr": torch.from_numpy(x.indptr.astype(np.int64)),
        }
    return {"x": torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))}


def _matrix(tensors: dict[str, torch.Tensor], n_cells: int, n_features: int) -> np.ndarray | sparse.csr_array:
    if "x" in tensors:
        return tensors["x"].numpy()
    parts = tuple(tensors[f"x.{part}"].numpy() for part in ("data", "indices", "indptr"))
    return sparse.csr_array(parts, shape=(n_cells, n_features))
