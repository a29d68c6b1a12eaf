"""Which samples the maps show: the patients of highest and lowest held-out risk, by a rule printed beside them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from metaniche.io import keys
from metaniche.report.run import Run
from metaniche.report.vocabulary import number

PER_END = 2


@dataclass(frozen=True)
class Exemplars:
    """Samples to draw, highest risk first, their panel titles, and the rule that chose them."""

    samples: tuple[str, ...]
    titles: dict[str, str]
    rule: str


def choose_exemplars(run: Run, per_end: int = PER_END) -> Exemplars:
    """The `per_end` patients of highest and of lowest held-out risk, each by its sample with most malignant cells.

    Where cells and predictions share no patient, samples are ordered by the mean potential of their malignant cells.
    """
    counts = _malignant_counts(run.cells)
    owner = _owners(run)
    risk = _patient_ranks(run)
    linked = owner[owner.isin(risk.index) & owner.index.isin(counts.index)]
    if linked.empty:
        return _by_potential(run, per_end)
    largest = counts[linked.index].groupby(linked).idxmax()
    order = risk.sort_values(ascending=False, kind="stable").index
    drawable = [p for p in order if p in largest.index]
    chosen = _ends(drawable, per_end)
    outcomes = _outcomes(run)
    titles = {largest[p]: f"{p}: risk rank {_place(order, p)}{outcomes.get(p, '')}" for p in chosen}
    kept_one = linked[linked.isin(chosen)].value_counts().max() == 1
    which = "each by the one sample kept" if kept_one else "each by its sample with the most malignant cells"
    among = "" if len(drawable) == len(order) else f" among the {len(drawable)} whose cells the evaluation kept"
    rule = (
        f"Shown are the patients with the highest and the lowest held-out risk{among} "
        f"({_ends_words(len(drawable), per_end)}), {which}. Titles give patient, "
        "rank among all evaluated patients (1 is the highest risk) and what happened."
    )
    return Exemplars(tuple(largest[p] for p in chosen), titles, rule)


def _malignant_counts(cells: pd.DataFrame) -> pd.Series:
    flags = (
        cells[keys.MALIGNANT].fillna(False).astype(bool) if keys.MALIGNANT in cells else pd.Series(True, cells.index)
    )
    return flags.groupby(cells[keys.SAMPLE]).sum()


def _owners(run: Run) -> pd.Series:
    """sample_id -> patient_id, from the cells or the predictions."""
    for frame in (run.cells, run.predictions):
        if frame is not None and {keys.SAMPLE, keys.PATIENT} <= set(frame):
            pairs = frame[[keys.SAMPLE, keys.PATIENT]].dropna().astype(str).drop_duplicates(keys.SAMPLE)
            return pairs.set_index(keys.SAMPLE)[keys.PATIENT]
    if run.predictions is None:
        return pd.Series(dtype=str)
    return run.predictions.drop_duplicates("unit_id").set_index("unit_id")[keys.PATIENT]


def _patient_ranks(run: Run) -> pd.Series:
    if run.predictions is None:
        return pd.Series(dtype=float)
    rows = run.predictions[run.predictions["model"] == run.model].dropna(subset=["score"])
    ranks = rows.groupby("repeat")["score"].rank(pct=True) if "repeat" in rows else rows["score"].rank(pct=True)
    return ranks.groupby(rows[keys.PATIENT]).mean()


def _outcomes(run: Run) -> dict[str, str]:
    if run.task.get("level", "patient") != "patient" or "site" in run.predictions:
        return {}
    first = run.predictions.groupby(keys.PATIENT).first()
    if {"time", "event"} <= set(first):
        return {
            p: f", {'event' if e else 'no event'} at {number(t, 0)}"
            for p, t, e in zip(first.index, first["time"], first["event"])
        }
    if "y" not in first:
        return {}
    return {p: ", outcome: yes" if y == 1 else ", outcome: no" for p, y in first["y"].dropna().items()}


def _by_potential(run: Run, per_end: int) -> Exemplars:
    cells = run.cells
    valued = cells[cells[keys.MALIGNANT].fillna(False).astype(bool)] if keys.MALIGNANT in cells else cells
    means = valued.groupby(keys.SAMPLE)[keys.POTENTIAL].mean().dropna().sort_values(ascending=False, kind="stable")
    chosen = _ends(list(means.index), per_end)
    titles = {s: f"{s}: mean potential {number(means[s])}" for s in chosen}
    rule = (
        f"Shown are the samples whose malignant cells have the highest and the lowest mean potential "
        f"({_ends_words(len(means), per_end)})."
    )
    return Exemplars(tuple(chosen), titles, rule)


def _ends(ordered: list[str], per_end: int) -> list[str]:
    return ordered if len(ordered) <= 2 * per_end else [*ordered[:per_end], *ordered[-per_end:]]


def _place(order: pd.Index, name: str) -> str:
    return f"{order.get_loc(name) + 1} of {len(order)}"


def _ends_words(total: int, per_end: int) -> str:
    return f"all {total}" if total <= 2 * per_end else f"{per_end} at each end of {total}"
