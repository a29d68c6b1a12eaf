"""Discrimination within clinical subgroups, said only where enough patients and outcomes stand behind it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metaniche.data.task import event_kind
from metaniche.io import keys
from metaniche.metrics import auroc, bootstrap_ci, harrell_c
from metaniche.report.run import Run
from metaniche.report.vocabulary import level_name

MIN_PATIENTS, MIN_OUTCOMES = 10, 5
_USUAL = {"sex", "gender", "age", "stage", "grade", "ethnicity", "race"}
_MAX_LEVELS = 6
_N_BOOT = 500


def subgroups(run: Run, n_boot: int = _N_BOOT) -> pd.DataFrame:
    """One row per level of the task's clinical variables and of sex, age, stage, grade, ethnicity; numbers in halves.

    Returns
    -------
    Columns variable, level, n_patients, n_outcomes, and `value`, `value_low`, `value_high` (AUROC or Harrell's C,
    mean over repeats, interval over patients), NaN where fewer than 10 patients, or 5 with or (for a label) 5 without
    the outcome, stand behind it. Empty where nothing can be said, and for tasks of several sites.
    """
    if run.patients is None or run.predictions is None:
        return pd.DataFrame()
    rows = run.predictions[run.predictions["model"] == run.model]
    outcome = "event" if run.is_survival else "y"
    if outcome not in rows or "site" in rows:
        return pd.DataFrame()
    rows = rows.dropna(subset=[outcome, "score"])
    found = []
    for variable in _variables(run):
        of_row = rows[keys.PATIENT].map(_levels(run.patients[variable]))
        names = sorted(of_row.dropna().unique())
        if 2 <= len(names) <= _MAX_LEVELS:
            heads = [{"variable": str(variable), "level": str(n)} for n in names]
            found += [head | _score(rows[of_row == n], outcome, n_boot) for head, n in zip(heads, names)]
    return pd.DataFrame(found)


def _variables(run: Run) -> list[str]:
    clinical = run.task.get("clinical") or ()
    return [c for c in run.patients if c in clinical or str(c).lower() in _USUAL]


def _levels(values: pd.Series) -> pd.Series:
    numeric = pd.to_numeric(values, errors="coerce")
    if numeric.notna().any() and numeric.nunique() > _MAX_LEVELS:
        middle = numeric.median()
        names = pd.Series(np.where(numeric <= middle, f"up to {middle:.3g}", f"above {middle:.3g}"), values.index)
        return names.where(numeric.notna())
    return values.astype(object).where(values.isna(), values.map(level_name))


def _score(rows: pd.DataFrame, outcome: str, n_boot: int) -> dict:
    patients = rows.groupby(keys.PATIENT)[outcome].max()
    found = {"n_patients": len(patients), "n_outcomes": int(patients.sum())}
    few_without = outcome == "y" and len(patients) - found["n_outcomes"] < MIN_OUTCOMES
    if found["n_patients"] < MIN_PATIENTS or found["n_outcomes"] < MIN_OUTCOMES or few_without:
        return found | dict.fromkeys(("value", "value_low", "value_high"), np.nan)
    rows = rows if "repeat" in rows else rows.assign(repeat=0)
    risks = rows.pivot_table(index="unit_id", columns="repeat", values="score").dropna()
    units = rows.drop_duplicates("unit_id").set_index("unit_id").loc[risks.index]

    def mean_score(weight: np.ndarray | None) -> float | np.ndarray:
        if outcome == "y":
            return np.mean([auroc(units["y"], risks[r], weight) for r in risks], axis=0)
        time, event = units["time"].to_numpy(), event_kind(units)
        return np.mean([harrell_c(time, event, risks[r].to_numpy(), weight) for r in risks], axis=0)

    value, low, high = bootstrap_ci(mean_score, units[keys.PATIENT].to_numpy(), n_boot)
    return found | {"value": value, "value_low": low, "value_high": high}
