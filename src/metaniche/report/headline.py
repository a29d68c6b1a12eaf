"""The result in plain words. It says what the intervals allow and nothing more."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from metaniche.metrics.names import Metric
from metaniche.report.run import Run
from metaniche.report.vocabulary import is_blank, metrics_of, number, p_value, with_interval

SMALL_COHORT = 100
# Of one split: with fewer held-out patients a figure says nothing, not even with its interval.
FEWEST = 10
_NAMES = {"network": "The graph network", "fused": "The network fused with another model"}


@dataclass(frozen=True)
class Headline:
    """What the report opens with.

    Attributes
    ----------
    verdict
        "better", "worse", "not shown" (interval of the difference holds zero) or "not compared".
    result, conclusion
        The figures; what they allow to say.
    cautions
        Sentences that a reader must not miss.
    """

    verdict: str
    result: str
    conclusion: str
    cautions: tuple[str, ...]


def primary_metric(run: Run) -> Metric | None:
    """The metric that decides."""
    if run.table is None:
        return None
    return next(iter(metrics_of(run.table, run.is_survival)), None)


def best_baseline(run: Run, metric: Metric) -> pd.Series | None:
    """Row of the simple model that differences refer to: the one the table names, else the one without a difference to
    itself, else the best one."""
    table = run.table[run.table["model"] != run.model].dropna(subset=[metric.column])
    if "best_baseline" in table and (table["model"] == table["best_baseline"]).any():
        return table[table["model"] == table["best_baseline"]].iloc[0]
    rows = table[table["kind"].isin(("baseline", "clinical"))]
    if "diff_baseline" in rows and rows["diff_baseline"].notna().any():
        rows = rows[rows["diff_baseline"].isna()]
    return None if rows.empty else _first(rows, metric)


def clinical_model(run: Run, metric: Metric) -> pd.Series | None:
    """Row of the clinical variables alone: of the clinical models the first without a difference to itself."""
    rows = run.table[(run.table["kind"] == "clinical") & (run.table["model"] != run.model)].dropna(
        subset=[metric.column]
    )
    if "diff_clinical" in rows and rows["diff_clinical"].isna().any():
        rows = rows[rows["diff_clinical"].isna()]
    return None if rows.empty else rows.iloc[0]


def headline(run: Run) -> Headline | None:
    """The headline, or None where the table holds no result for the model."""
    metric, row = primary_metric(run), run.row(run.model)
    if metric is None or row is None or is_blank(row[metric.column]):
        return None
    n = _n_patients(run, row)
    if _one_split(run) and not is_blank(n) and int(n) < FEWEST:
        result = f"Held-out patients: {int(n)}, too few to say how well {run.model} does on others."
        words = "metaniche-evaluate holds every patient out in turn; the figures below are there to be complete."
        return Headline("not compared", result, words, tuple(_cautions(run, row, metric)))
    name = _NAMES.get(row["kind"], "The model")
    result = f"{name} ({run.model}) reaches {metric.label} {with_interval(row, metric.column)} on held-out patients."
    baseline, clinical = best_baseline(run, metric), clinical_model(run, metric)
    if baseline is not None and clinical is not None and baseline["model"] == clinical["model"]:
        clinical = None
    noun = "network" if row["kind"] in _NAMES else "model"
    verdict, standing = "not compared", {}
    if baseline is not None:
        result += f" The best simple baseline, {baseline['model']}, reaches {with_interval(baseline, metric.column)}"
        result += f"{_difference(row, 'diff_baseline')}."
        verdict, standing["the best simple baseline"] = _against(row, baseline, metric, "diff_baseline")
    if clinical is not None:
        result += f" Clinical variables alone ({clinical['model']}) reach {with_interval(clinical, metric.column)}"
        result += f"{_difference(row, 'diff_clinical')}."
        _, standing["clinical variables alone"] = _against(row, clinical, metric, "diff_clinical")
    words = (
        [] if baseline is not None else [f"The table names no simple baseline, so what the {noun} adds is not known."]
    )
    words += [
        _conclusion(how, noun, " or ".join(w for w, h in standing.items() if h == how))
        for how in dict.fromkeys(standing.values())
    ]
    return Headline(verdict, result, " ".join(words), tuple(_cautions(run, row, metric)))


def _n_patients(run: Run, row: pd.Series) -> object:
    return row["n_patients"] if not is_blank(row.get("n_patients")) else run.info.get("n_patients")


def _one_split(run: Run) -> bool:
    return bool(run.splits) and len(run.splits) == 1


def _first(rows: pd.DataFrame, metric: Metric) -> pd.Series:
    values = rows[metric.column]
    return rows.loc[values.idxmin() if metric.better == "lower" else values.idxmax()]


def _difference(row: pd.Series, column: str) -> str:
    if is_blank(row.get(column)):
        return ""
    p = p_value(row.get(f"{column}_p"))
    return f" (paired difference {with_interval(row, column, signed=True)}{', ' + p if p else ''})"


def _against(row: pd.Series, other: pd.Series, metric: Metric, column: str) -> tuple[str, str]:
    """(verdict, how the network stands to the other). A difference is network minus other, on the primary metric."""
    sign = -1.0 if metric.better == "lower" else 1.0
    ends = [row.get(f"{column}_low"), row.get(f"{column}_high")]
    if is_blank(row.get(column)) or any(is_blank(e) for e in ends):
        gap = sign * (row[metric.column] - other[metric.column])
        return "not compared", "higher in number only" if gap > 0 else "not better"
    low, high = sorted(sign * float(e) for e in ends)
    if low > 0:
        return "better", "better"
    if high < 0:
        return "worse", "worse"
    return "not shown", "not shown" if sign * float(row[column]) > 0 else "not better"


def _conclusion(words: str, noun: str, whom: str) -> str:
    return {
        "better": f"On these patients the {noun} is better than {whom.replace(' or ', ' and than ')}.",
        "worse": f"The {noun} is worse than {whom}.",
        "not better": f"The {noun} is NOT better than {whom}.",
        "not shown": f"The {noun} is NOT shown to be better than {whom}: the interval of the difference holds zero.",
        "higher in number only": f"The {noun} is better in number than {whom}, but no paired difference was computed, "
        "so it is not shown to be better.",
    }[words]


def _cautions(run: Run, row: pd.Series, metric: Metric) -> list[str]:
    cautions = []
    low, high = row.get(f"{metric.column}_low"), row.get(f"{metric.column}_high")
    if metric.chance is not None and not is_blank(low) and float(low) <= metric.chance <= float(high):
        cautions.append(f"Its own interval holds {metric.chance:g}: chance is not excluded.")
    top = _first(run.table.dropna(subset=[metric.column]), metric)
    if top["model"] != run.model:
        cautions.append(
            f"The best {metric.label} of the table is that of {top['model']}: {with_interval(top, metric.column)}."
        )
    control = run.info.get("permutation_control") or {}
    if control and not control.get("holds_chance"):
        ends = f"{number(control.get('low'))} to {number(control.get('high'))}"
        cautions.append(
            f"The control with permuted labels gives {ends}, which does not hold 0.5. Something leaks, the folds are "
            "unbalanced, or the draw was unlucky; repeat it with more permutations (n_permutations) before you rely on the "
            "figures above."
        )
    n = _n_patients(run, row)
    if not is_blank(n) and int(n) < SMALL_COHORT:
        cautions.append(f"{int(n)} patients are few: expect another cohort to give another figure.")
    if run.info.get("folds") or run.splits:
        how = "one split of" if _one_split(run) else "cross-validation within"
        cautions.append(f"All figures come from {how} this cohort; nothing here was tested on another one.")
    return cautions
