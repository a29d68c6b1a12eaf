"""ClinicalFeatures: a patient table as numbers; medians, scales and categories come from the patients it was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.manifest import check_patients
from metaniche.io.wording import listed, nearest, refusal


@dataclass(frozen=True)
class ClinicalFeatures:
    """A fitted map from a patient table to (B, C) float32.

    Numbers are standardised and missing ones take the training median; a category becomes one column per level seen
    in training, and an unseen or missing one is all zeros.
    """

    median: dict[str, float]
    mean: dict[str, float]
    scale: dict[str, float]
    levels: dict[str, list[str]]

    @classmethod
    def fit(cls, table: pd.DataFrame, columns: Sequence[str]) -> ClinicalFeatures:
        """Fit on the rows of `table`. Raises InputError for an absent column."""
        absent = [c for c in columns if c not in table]
        if absent:
            raise InputError(f"Expected clinical column(s) {absent} in the patient table, found {list(table.columns)}.")
        numeric = [c for c in columns if pd.api.types.is_numeric_dtype(table[c])]
        filled = {c: table[c].astype(float).fillna(table[c].median()).fillna(0.0) for c in numeric}
        return cls(
            median={c: float(np.nan_to_num(table[c].median())) for c in numeric},
            mean={c: float(filled[c].mean()) for c in numeric},
            scale={c: float(filled[c].std(ddof=0)) or 1.0 for c in numeric},
            levels={c: sorted(table[c].dropna().astype(str).unique()) for c in columns if c not in numeric},
        )

    @property
    def names(self) -> list[str]:
        """Names of the C columns."""
        return [*self.mean, *(f"{c}={level}" for c, levels in self.levels.items() for level in levels)]

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """(B, C) float32, a row per row of `table`; an absent column counts as missing for every patient."""
        table = table.reindex(columns=[*self.mean, *self.levels])
        blocks = [
            (pd.to_numeric(table[c], errors="coerce").fillna(self.median[c]) - self.mean[c]) / self.scale[c]
            for c in self.mean
        ]
        blocks += [(table[c].astype(str) == level) for c, levels in self.levels.items() for level in levels]
        if not blocks:
            return np.zeros((len(table), 0), dtype=np.float32)
        return np.stack([np.asarray(b, dtype=np.float32) for b in blocks], axis=1)

    def state(self) -> dict:
        """Plain JSON types; `ClinicalFeatures(**state)` is the inverse."""
        return asdict(self)


def clinical_table(clinical: ClinicalFeatures, ids: set[str], patients: pd.DataFrame | None) -> pd.DataFrame:
    """The clinical variables of these patients, with patient_id as the index. Absent ones would silently be read as the median
    of the training: InputError names what is missing.
    """
    columns = [*clinical.mean, *clinical.levels]
    fix = f"Give patients=, a table of patient_id and {', '.join(columns)}; leave blank what is not known."
    if patients is None:
        raise refusal("bundle", expected="the clinical variables that it uses", found="no patients=", fix=fix)
    if keys.PATIENT not in patients:
        patients = patients.rename_axis(keys.PATIENT).reset_index()
    patients = check_patients(patients, where="patients")
    absent = [c for c in columns if c not in patients]
    if absent:
        found = f"columns {listed(list(patients.columns), 8)}"
        fix = f"{nearest(absent[0], patients.columns)}{fix}"
        raise refusal("patients", expected=f"column(s) {listed(absent)}", found=found, fix=fix)
    unknown = sorted(ids - set(patients.index))
    if unknown:
        found = f"none for {listed(unknown)}; its ids are {listed(patients.index)}"
        fix = f"{nearest(unknown[0], patients.index)}The ids must be those of obs[{keys.PATIENT!r}]. {fix}"
        raise refusal("patients", expected="a row for the patient of every sample", found=found, fix=fix)
    return patients
