"""Which samples the maps show: the patients of highest and lowest held-out risk, by a rule printed beside them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from metaniche.evaluation.ranks import patient_ranks
from metaniche.io import keys
from metaniche.report.run import Run
from metaniche.report.vocabulary import number

FEW = 4


@dataclass(frozen=True)
class Exemplars:
    """Samples to draw, highest risk first, their panel titles, and the rule that chose them."""

    samples: tuple[str, ...]
    titles: dict[str, str]
    rule: str


def choose_exemplars(run: Run) -> Exemplars:
    """The samples that the run kept (see `record.collect_cells`), highest held-out risk first.

    Where cells and predictions share no patient, the first ones, in the order of the file.
    """
    owner = run.cells.drop_duplicates(keys.SAMPLE).set_index(keys.SAMPLE)[keys.PATIENT]
    risk = pd.Series(dtype=float) if run.predictions is None else patient_ranks(run.predictions, run.model)
    order = risk.sort_values(kind="stable").index[::-1]
    place = pd.Series(range(1, len(order) + 1), order)
    ranked = owner[owner.isin(order)].map(place).sort_values(kind="stable")
    if ranked.empty:
        return Exemplars(tuple(owner.index[:FEW]), {}, "Shown are samples that the run kept.")
    chosen = list(ranked.index)
    outcomes = _outcomes(run)
    titles = {s: f"{owner[s]}: risk rank {ranked[s]} of {len(order)}{outcomes.get(owner[s], '')}" for s in chosen}
    told = [
        "patient",
        "rank among all evaluated patients (1 is the highest risk)",
        *(["what happened"] if outcomes else []),
    ]
    few = len(ranked) < len(order)
    who = (
        f"Of {len(order)} patients the {len(ranked)} with the highest and the lowest held-out risk"
        if few
        else "All patients"
    )
    rule = f"{who}, each by one sample, that with the most malignant cells. Titles give {', '.join(told[:-1])} and {told[-1]}."
    return Exemplars(tuple(chosen), titles, rule)


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
