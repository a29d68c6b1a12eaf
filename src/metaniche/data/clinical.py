"""ClinicalFeatures: a patient table as numbers; medians, scales and categories come from the patients it was fitted on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.manifest import check_patients
from metaniche.io.wording import listed, nearest, refusal

_WHOLE = re.compile(r"-?\d+\.0+")


@dataclass(frozen=True)
class ClinicalFeatures:
    """A fitted map from a patient table to (B, C) float32.

    Numbers are standardised and missing ones take the training median; a category becomes one column per level seen
    in training, and an unseen or missing one is all zeros. `check` refuses what is not blank and yet cannot be read.
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
            levels={
                c: sorted({_level(value) for value in table[c].dropna()} - {""}) for c in columns if c not in numeric
            },
        )

    @property
    def names(self) -> list[str]:
        """Names of the C columns."""
        return [*self.mean, *(f"{c}={level}" for c, levels in self.levels.items() for level in levels)]

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        """(B, C) float32, a row per row of `table`; an absent column counts as missing for every patient."""
        read = self._read(table)
        blocks = [(read[c].fillna(self.median[c]) - self.mean[c]) / self.scale[c] for c in self.mean]
        blocks += [(read[c] == level) for c, levels in self.levels.items() for level in levels]
        if not blocks:
            return np.zeros((len(table), 0), dtype=np.float32)
        return np.stack([np.asarray(b, dtype=np.float32) for b in blocks], axis=1)

    def check(self, table: pd.DataFrame) -> None:
        """Raise InputError for a value, of any patient, that is neither blank nor a number or level that was trained on."""
        strange = self._strange(table)
        for column in strange.columns[strange.any()]:
            rows = table.loc[strange[column], column]
            found = f"{listed(rows.unique())} of {len(rows)} patient(s) ({listed(rows.index, 3)})"
            levels = self.levels.get(column)
            expected = (
                f"numbers or blanks in {column!r}"
                if levels is None
                else f"in {column!r} {listed(levels, 20)} or blank"
                if levels
                else f"blanks alone in {column!r}, which was blank in training"
            )
            hint = nearest(str(rows.iloc[0]), levels or ())
            fix = f"{hint}Write it as in training; leave blank what does not fit: it then counts as not known."
            raise refusal("patients", expected=expected, found=found, fix=fix)

    def doubts(self, table: pd.DataFrame) -> dict[str, list[str]]:
        """Patient id -> what was not known of a patient and had to be made up, a phrase each."""
        strange, missing = self._strange(table), self._read(table).isna()
        found = {}
        for patient in table.index:
            other = strange.columns[strange.loc[patient]]
            blank = missing.columns[missing.loc[patient] & ~strange.loc[patient]]
            values = [f"{column}={table.at[patient, column]}" for column in other]
            found[patient] = [f"clinical variables not given: {listed(blank, 8)}"] if len(blank) else []
            found[patient] += (
                [f"clinical values unlike those of training, not used: {listed(values, 8)}"] if values else []
            )
        return found

    def _read(self, table: pd.DataFrame) -> pd.DataFrame:
        """The numbers, and the levels as training spelt them; NaN or None for what is blank or strange."""
        table = table.reindex(columns=[*self.mean, *self.levels])
        read = {c: _numbers(table[c]) for c in self.mean}
        for column, levels in self.levels.items():
            known = {_level(level): level for level in levels}
            read[column] = pd.Series([known.get(_level(v)) for v in table[column]], table.index, dtype=object)
        return pd.DataFrame(read, index=table.index)

    def _strange(self, table: pd.DataFrame) -> pd.DataFrame:
        """Bool, a column per variable: what is not blank and yet cannot be read."""
        given = table.reindex(columns=[*self.mean, *self.levels])
        blank = given.isna() | (given.astype(str).apply(lambda column: column.str.strip()) == "")
        return self._read(table).isna() & ~blank

    def state(self) -> dict:
        """Plain JSON types; `ClinicalFeatures(**state)` is the inverse."""
        return asdict(self)


def _numbers(column: pd.Series) -> pd.Series:
    """float64; NaN for what is no finite number. true and false are 1 and 0, however they are written."""
    truth = column.map(lambda value: {"true": 1, "false": 0}.get(str(value).strip().casefold(), value))
    numbers = pd.to_numeric(truth, errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def _level(value: object) -> str:
    """One spelling per level: a column of whole numbers with a gap in it is read as 2.0 where another has 2."""
    text = str(value).strip()
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text


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
