"""Run: what an evaluation left in its folder, read once. Every file may be absent; a damaged one is an InputError."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from metaniche.errors import InputError
from metaniche.io import keys, run_files

UNKNOWN_KIND = "kind not given"
_NETWORK_KINDS = ("network", "fused")
_CELL_COLUMNS = (
    keys.SAMPLE, keys.PATIENT, "cell_id", "x_um", "y_um", keys.CELL_TYPE, keys.MALIGNANT, keys.POTENTIAL, keys.ATTENTION
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Files of one run. A table or list is None where its file is absent.

    Attributes
    ----------
    folder
        Where they were read.
    info
        run.json, empty when absent.
    table
        table.csv, a row per model, with a `kind` for each.
    predictions, patients, cells, history
        predictions.parquet, patients.csv (indexed by patient_id, all text kept), cells.parquet, history.csv.
        Predictions always carry `score`, which ranks units across folds (the risk where the file has none). Cells are
        those of samples whose patient the network had not seen.
    checks, caption, splits
        data_checks.json: check, status, detail; caption.json: what must stand below the table; folds.json.
    repeats
        repeats.csv, the estimates of every repeat.
    sets
        conformal.csv: p-values of both labels, and sets, of every unit and network.
    terms, pairs, curves, edge_curves, states
        terms.csv, pairs.parquet, deletion.csv, edge_deletion.csv and states.csv of `explain.Explanation`.
    """

    folder: Path
    info: dict[str, Any] = field(default_factory=dict)
    table: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    patients: pd.DataFrame | None = None
    cells: pd.DataFrame | None = None
    checks: list[dict] | None = None
    caption: list[str] | None = None
    splits: list[dict] | None = None
    repeats: pd.DataFrame | None = None
    sets: pd.DataFrame | None = None
    history: pd.DataFrame | None = None
    terms: pd.DataFrame | None = None
    pairs: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    edge_curves: pd.DataFrame | None = None
    states: pd.DataFrame | None = None

    @property
    def task(self) -> dict[str, Any]:
        return self.info.get("task") or {}

    @property
    def is_survival(self) -> bool:
        return self.task.get("kind") in ("cox", "discrete_time") or (
            self.predictions is not None and "event" in self.predictions and "y" not in self.predictions
        )

    @property
    def model(self) -> str | None:
        """The model the report is about: run.json's, else the table's first network, else its first row."""
        named = self.info.get("model")
        known = [] if self.table is None else list(self.table["model"])
        if self.table is None or named in known:
            return named
        networks = self.table.loc[self.table["kind"].isin(_NETWORK_KINDS), "model"]
        return next(iter([*networks, *known]), named)

    @property
    def kinds(self) -> dict[str, str]:
        """model -> network, fused, clinical or baseline."""
        return {} if self.table is None else dict(zip(self.table["model"], self.table["kind"]))

    def row(self, model: str | None) -> pd.Series | None:
        """The table's row of a model."""
        if self.table is None or model not in set(self.table["model"]):
            return None
        return self.table.set_index("model").loc[model]


def read_run(run_dir: Path) -> Run:
    """Read a run folder. Raises InputError when it holds none of the files, or a damaged one."""
    folder = Path(run_dir)
    readers = {
        "info": (run_files.RUN, _json(dict)),
        "table": (run_files.TABLE, _table),
        "predictions": (run_files.PREDICTIONS, _predictions),
        "patients": (run_files.PATIENTS, _by_id),
        "cells": (run_files.CELLS, _cells),
        "checks": (run_files.CHECKS, _json(list)),
        "caption": (run_files.CAPTION, _json(list)),
        "splits": (run_files.FOLDS, _json(list)),
        "repeats": (run_files.REPEATS, _table),
        "sets": (run_files.SETS, _sets),
        "history": (run_files.HISTORY, pd.read_csv),
        "terms": (run_files.TERMS, _by_id),
        "pairs": (run_files.PAIRS, pd.read_parquet),
        "curves": (run_files.CURVES, _indexed),
        "edge_curves": (run_files.EDGE_CURVES, _indexed),
        "states": (run_files.STATES, _indexed),
    }
    found = {}
    for name, (file, reader) in readers.items():
        if (folder / file).is_file():
            found[name] = _read(folder / file, reader)
    if not found:
        files = ", ".join(file for file, _ in readers.values())
        raise InputError(
            f"Expected a run folder with some of {files}; found none of them in {folder}. "
            "Give the folder that metaniche-evaluate wrote."
        )
    return Run(folder, **found)


def _read(path: Path, reader: Callable) -> Any:
    try:
        return reader(path)
    except InputError:
        raise
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"Expected {path} to be readable, found: {error}. Run metaniche-evaluate again.") from error


def _json(kind: type) -> Callable[[Path], Any]:
    def reader(path: Path) -> Any:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, kind):
            raise ValueError(f"a {type(value).__name__} where a {kind.__name__} should be")
        return value

    return reader


def _indexed(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col=0)


def _require(frame: pd.DataFrame, columns: tuple[str, ...], path: Path) -> pd.DataFrame:
    absent = [c for c in columns if c not in frame]
    if absent:
        raise InputError(
            f"Expected columns {list(columns)} in {path}, found no {absent}. Run metaniche-evaluate again."
        )
    return frame


def _table(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype={"model": str})
    if "model" not in frame:
        frame = frame.rename(columns={frame.columns[0]: "model"})
    frame["model"] = frame["model"].astype(str)
    return frame.assign(kind=frame["kind"].fillna(UNKNOWN_KIND) if "kind" in frame else UNKNOWN_KIND)


def _sets(path: Path) -> pd.DataFrame:
    converters = dict.fromkeys(("model", "unit_id", keys.PATIENT), str)
    return _require(pd.read_csv(path, converters=converters), ("model", "y", "weight", "p0", "p1"), path)


def _predictions(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path)
    frame = _require(
        frame.reset_index() if "unit_id" in frame.index.names else frame, ("model", "unit_id", "risk"), path
    )
    if keys.PATIENT not in frame:
        frame = frame.assign(patient_id=frame["unit_id"])
    if "score" not in frame:
        frame = frame.assign(score=frame["risk"])
    return frame.astype({"model": str, "unit_id": str, keys.PATIENT: str})


def _by_id(path: Path) -> pd.DataFrame:
    columns = pd.read_csv(path, nrows=0).columns
    name = keys.PATIENT if keys.PATIENT in columns else columns[0]
    # By a converter, as text from the start: patient 08 is not patient 8, and one called NA has a name.
    return pd.read_csv(path, converters={name: str}).set_index(name)


def _cells(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    present = set(pq.read_schema(path).names)
    frame = pd.read_parquet(path, columns=[c for c in _CELL_COLUMNS if c in present])
    return _require(frame, (keys.SAMPLE, keys.PATIENT, "x_um", "y_um"), path).astype(
        {keys.SAMPLE: str, keys.PATIENT: str}
    )
