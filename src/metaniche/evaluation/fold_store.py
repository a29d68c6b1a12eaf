"""Predictions of one model on one fold, on disk: written whole or not at all, read again only under the same key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from metaniche import __version__
from metaniche.data.splits import Fold
from metaniche.data.task import Targets, Task
from metaniche.errors import ConfigError
from metaniche.evaluation.estimator import Estimator, Prediction
from metaniche.io.digest import table_digest
from metaniche.io.write import write_parquet

if TYPE_CHECKING:
    from metaniche.evaluation.crossval import Cohort

FORMAT = 1
DECIDING = (
    "csrc",
    "data",
    "evaluation",
    "graph",
    "io",
    "metrics",
    "models",
    "nn",
    "ops",
    "signaling",
    "training",
    "predict.py",
)
SOURCES = (".py", ".h", ".cpp", ".cu")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class FoldResult:
    """A checked prediction of one fold's test units, and how many variables the model was fitted on (NaN: unknown)."""

    prediction: Prediction
    n_variables: float = float("nan")


def fold_key(
    estimator: Estimator, targets: Targets, clinical: pd.DataFrame | None, fold: Fold, seed: int, cohort: Sequence[str]
) -> str:
    """Hash of all that decides a fold's predictions: the model's repr, the task, the labels and clinical variables, what binds
    patients together, the patients of both sides, the seed, what names the prepared cohort, and metaniche's version and code.

    Raises ConfigError for a model whose repr holds a memory address: it would never be found again.
    """
    text = repr(estimator)
    if ADDRESS.search(text):
        raise ConfigError(
            f"Expected repr({estimator.name!r}) to be the model's configuration, found an address: {text[:120]}. "
            "Make it a dataclass, and its fitted fields repr=False."
        )
    parts = {
        "format": FORMAT,
        "version": __version__,
        "code": code_digest(Path(__file__).parents[1]),
        "estimator": text,
        "task": asdict(targets.task),
        "targets": targets.digest,
        "groups": None if targets.groups is None else table_digest(targets.groups.to_frame("group").sort_index()),
        "clinical": None if clinical is None else table_digest(clinical.sort_index()),
        "fold": asdict(fold),
        "seed": seed,
        "cohort": list(cohort),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def data_digests(cohort: Cohort, task: Task) -> list[str]:
    """What names the prepared samples of a cohort, and the clinical variables of a task."""
    clinical = table_digest(cohort.patients[list(task.clinical)].sort_index()) if task.clinical else "none"
    return [cohort.name, cohort.folder.name, table_digest(cohort.samples), clinical]


@cache
def code_digest(package: Path) -> str:
    """Hash of the source files under `package` that decide a fit, native ones too; read once per process.

    Two states of a clone bear the same version, and a fold of the other one must not be taken for this one's.
    """
    digest = hashlib.sha256()
    for part in DECIDING:
        paths = [package / part] if part.endswith(".py") else sorted((package / part).rglob("*"))
        for path in (p for p in paths if p.suffix in SOURCES):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def fold_path(folder: Path, name: str, fold: Fold, key: str) -> Path:
    """`folder/<model>-r<repeat>-f<fold>-<key>.parquet`."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return Path(folder) / f"{slug}-r{fold.repeat}-f{fold.fold}-{key}.parquet"


def save_fold(path: Path, result: FoldResult) -> None:
    """Write atomically: a temporary file in the same folder, then a rename."""
    prediction = result.prediction
    mean, scale = prediction.train_scale or (np.nan, np.nan)
    table = pd.DataFrame({"risk": prediction.risk})
    for prefix, frame in (("survival", prediction.survival), ("site", prediction.sites)):
        if frame is not None:
            table = table.join(frame.add_prefix(f"{prefix}@"))
    table = table.assign(train_mean=mean, train_sd=scale, n_variables=result.n_variables)
    write_parquet(table.rename_axis("unit_id").reset_index(), path)


def load_fold(path: Path) -> FoldResult | None:
    """The saved result, or None where there is none."""
    if not Path(path).exists():
        return None
    table = pd.read_parquet(path).set_index("unit_id")
    survival, sites = (_prefixed(table, prefix) for prefix in ("survival@", "site@"))
    if survival is not None:
        survival.columns = survival.columns.astype(float)
    mean, scale = (float(table[c].iloc[0]) for c in ("train_mean", "train_sd"))
    train_scale = None if np.isnan(mean) else (mean, scale)
    return FoldResult(Prediction(table["risk"], survival, sites, train_scale), float(table["n_variables"].iloc[0]))


def _prefixed(table: pd.DataFrame, prefix: str) -> pd.DataFrame | None:
    columns = [c for c in table if c.startswith(prefix)]
    return table[columns].rename(columns=lambda c: c.removeprefix(prefix)) if columns else None
