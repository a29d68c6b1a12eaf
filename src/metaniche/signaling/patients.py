"""Signals of samples -> signals of patients, and which of them hold in most patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, t

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.wording import listed

SIGNAL = ("sender", "receiver", "ligand", "receptor")
VALUES = ("enrichment", "score")
MIN_PATIENTS = 3
MAX_CV = 0.5


def consistent_signals(
    table: pd.DataFrame, alpha: float = 0.05, *, by: Sequence[str] = SIGNAL, weight: str = "n_edges"
) -> pd.DataFrame:
    """Which signals exceed their null in the patients of a cohort, every patient counting once.

    Parameters
    ----------
    table
        As in `differential_communication`, with q.
    alpha
        A sample's signal is found at q below it.
    by, weight
        The columns that make a signal, and what its samples are weighted with; relays: `relay.RELAY` and "n_cells".

    Returns
    -------
    A row per signal measured in at least three patients: `enrichment` (mean over patients of score over expected, see
    `of_patients`) with the 95 % interval `low`, `high` over patients, its `p` against 1 (two-sided) and `q` (Benjamini and
    Hochberg over the table), `n_patients`, and `n_found`, in how many of them a sample has it at q < alpha. Smallest p first.

    Ratios are skewed: a wide null more often gives a little less than 1 than a little more, and Student's t would call far too
    many signals smaller than their null and too few larger. Interval and p are Johnson's (1978, doi:10.2307/2286597), with the
    variance and skewness of gamma variables that vary as the null does.
    """
    wide, spread = of_patients(table, "enrichment", list(by), weight)
    n = wide.notna().sum()
    wide, spread = (part.loc[:, n >= MIN_PATIENTS] for part in (wide, spread))
    n, mean, error = (part.to_numpy(float) for part in (wide.notna().sum(), wide.mean(), wide.sem()))
    variance, third = (spread**2).mean().to_numpy(float), 2 * (spread**4).mean().to_numpy(float)
    half, away = error * t.ppf(0.975, n - 1), mean - 1
    out = wide.columns.to_frame(index=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.nan_to_num(third / (6 * variance * n))
        bend = np.nan_to_num(third / (3 * variance**2)) * away**2
        p = 2 * t.sf(np.abs((away + shift + bend) / error), n - 1)
    out["enrichment"], out["low"], out["high"] = mean, mean + shift - half, mean + shift + half
    out["p"] = np.where(np.isnan(p) | (error == 0), 1.0, p)  # patients who are all alike give no scale
    out["q"] = false_discovery_control(out["p"]) if len(out) else np.nan
    out["n_patients"] = n.astype(int)
    hits = table[table["q"] < alpha].groupby([keys.PATIENT, *by], observed=True).size().unstack(list(by))
    hit = hits.reindex(index=wide.index, columns=wide.columns).notna()
    out["n_found"] = (hit & wide.notna()).sum().to_numpy(int)
    return out.sort_values(["p", "enrichment"], ascending=[True, False], ignore_index=True)


class OfPatients(NamedTuple):
    """(patients, signals), NaN where not measured."""

    value: pd.DataFrame
    spread: pd.DataFrame | None
    """Standard deviation of an enrichment under its null."""


def of_patients(table: pd.DataFrame, value: str, by: list[str], weight: str = "n_edges") -> OfPatients:
    """Signals of patients; samples are summed with their `weight`.

    Parameters
    ----------
    value
        enrichment: score over expected, 1 under the null, measured where the null's standard deviation is at most
        MAX_CV of its mean (a choice that does not look at the score); score: the mean signal itself.
    by
        The columns that make a signal.

    Raises InputError for missing columns and for a sample with two patients.
    """
    if value not in VALUES:
        raise InputError(f"Expected value in {VALUES}, found {value!r}.")
    needed = [
        keys.PATIENT,
        keys.SAMPLE,
        *by,
        "score",
        weight,
        *(["expected", "sd"] if value == "enrichment" else []),
    ]
    absent = [c for c in needed if c not in table]
    if absent:
        raise InputError(f"Expected columns {listed(needed, 12)} in the table of signals, found no {listed(absent)}.")
    owners = table.groupby(keys.SAMPLE, observed=True)[keys.PATIENT].nunique()
    if (owners > 1).any():
        raise InputError(
            f"Expected every sample to have one patient, found {listed(owners.index[owners > 1])} with more."
        )
    size = table[weight].to_numpy(float)
    rows = table[[keys.PATIENT, *by]].assign(size=size, score=size * table["score"].to_numpy(float))
    if value == "enrichment":
        rows["expected"] = size * table["expected"].to_numpy(float)
        rows["variance"] = (size * table["sd"].to_numpy(float)) ** 2
    sums = rows.groupby([keys.PATIENT, *by], observed=True).sum()
    if value == "score":
        return OfPatients((sums["score"] / sums["size"]).unstack(by), None)
    precise = (sums["expected"] > 0) & (np.sqrt(sums["variance"]) <= MAX_CV * sums["expected"])
    ratio, spread = sums["score"] / sums["expected"], np.sqrt(sums["variance"]) / sums["expected"]
    return OfPatients(*(part.where(precise).unstack(by) for part in (ratio, spread)))
