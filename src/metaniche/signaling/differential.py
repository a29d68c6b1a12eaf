"""Which signals differ between two groups of patients: samples are joined to patients first, and patients are permuted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from math import comb

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, t

from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.io.wording import listed
from metaniche.signaling.patients import MIN_PATIENTS, SIGNAL, of_patients

DRAWS_A_BLOCK = 64


def differential_communication(
    table: pd.DataFrame,
    groups: pd.Series,
    *,
    value: str = "enrichment",
    strata: Sequence[str] = (),
    n_permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every signal between two groups of patients.

    A patient counts once, whatever its number of samples or cells: its samples are averaged by their number of edges.
    The statistic is Welch's t; its p-value is two-sided, from permutations of the groups over patients (all of them,
    the one seen among them, where there are at most `n_permutations`), the same ones for every signal.

    Parameters
    ----------
    table
        Signals of the samples: columns sample_id, patient_id, SIGNAL, score, expected, sd and n_edges, as
        `metaniche-communicate` writes them. A signal that a sample did not test is not measured there, and not zero.
    groups
        patient_id -> group, of two values; patients without one are left out.
    value
        enrichment: score over expected, so that what a type expresses and how many cells there are cancel; score: the
        mean signal itself. See `of_patients`, also for where a signal counts as measured.
    strata
        Further columns of the table within which signals are compared apart, such as a niche or a length scale.
    n_permutations, seed
        Of the permutations of patients.

    Returns
    -------
    A row per stratum and signal with at least three patients in each group, none where there is no such signal:
    `difference` (second group less first) with its 95 % interval of Welch's t `low`, `high` (NaN where neither group varies),
    Hedges' g `effect`, `p`, `q` (Benjamini and Hochberg over the table) and how many patients of each group were measured.
    Smallest p first; attrs["groups"] names the two, attrs["compared"] and attrs["value"] what was compared.

    Raises
    ------
    InputError
        When there are not two groups of at least three patients, or columns are missing.
    """
    labels, names = _two_groups(groups)
    about = {"compared": str(groups.name), "groups": names, "value": value}
    by = [*strata, *SIGNAL]
    wide = of_patients(table, value, by).value
    wide.index = wide.index.astype(str)
    labels = labels.reindex(wide.index).dropna()
    wide = wide.loc[labels.index]
    second = labels.to_numpy(bool)
    if min(second.sum(), (~second).sum()) < MIN_PATIENTS:
        raise InputError(
            f"Expected at least {MIN_PATIENTS} patients of each group in the table, found {int((~second).sum())} of "
            f"{names[0]!r} and {int(second.sum())} of {names[1]!r}."
        )
    x = wide.to_numpy()
    measured = np.isfinite(x)
    counts = tuple(side.astype(int) @ measured for side in (~second, second))
    enough = np.minimum(*counts) >= MIN_PATIENTS
    x, wide = x[:, enough], wide.loc[:, enough]
    if not enough.any():
        empty = pd.DataFrame(columns=[*by, "difference", "low", "high", "effect", "p", "q", "n_first", "n_second"])
        empty.attrs |= about
        return empty
    rng = np.random.default_rng(seed)
    samples = _Samples(x)
    found, spread, half = _difference(samples, second)
    out = wide.columns.to_frame(index=False)
    out["difference"], out["low"], out["high"] = found, found - half, found + half
    n_first, n_second = (count[enough] for count in counts)
    out["effect"] = found / spread * (1 - 3 / (4 * (n_first + n_second) - 9))
    out["p"] = _permutation_p(x, second, n_permutations, rng)
    out["q"] = false_discovery_control(out["p"])
    out["n_first"], out["n_second"] = n_first, n_second
    out = out.sort_values("p", ignore_index=True)
    out.attrs |= about
    return out


def _two_groups(groups: pd.Series) -> tuple[pd.Series, tuple[str, str]]:
    """patient -> whether of the second group (in the order of sorting), and the names of both."""
    groups = groups.set_axis(groups.index.astype(str))
    if groups.index.has_duplicates:
        twice = groups.index[groups.index.duplicated()].unique()
        raise InputError(f"Expected every patient once in the groups, found {listed(twice)} more than once.")
    known = groups.dropna()
    values = sorted(known.unique())
    if len(values) != 2:
        raise InputError(
            f"Expected two groups of patients, found {len(values)} ({listed(values)}). Drop or join the others."
        )
    return (known == values[1]).rename_axis(keys.PATIENT), (str(values[0]), str(values[1]))


class _Samples:
    """Values (patients, signals), NaN where not measured, of which groups are weighted sums."""

    def __init__(self, x: np.ndarray) -> None:
        self.seen = np.isfinite(x).astype(float)
        centre = np.where(np.isfinite(x), x, 0.0).sum(0) / np.maximum(self.seen.sum(0), 1)
        self.x = np.where(np.isfinite(x), x - centre, 0.0)  # from the mean, so that squares do not cancel
        self.squares = self.x**2

    def moments(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number, mean and variance (draws, signals) of each signal; `weight` (draws, patients) counts every patient."""
        n = weight @ self.seen
        mean = weight @ self.x / np.maximum(n, 1)
        return n, mean, np.maximum(weight @ self.squares - n * mean**2, 0.0) / np.maximum(n - 1, 1)

    def welch(self, second: np.ndarray) -> np.ndarray:
        """t (draws, signals) of second group against first; 0 where neither varies."""
        (n_a, mean_a, var_a), (n_b, mean_b, var_b) = (self.moments(w) for w in (1.0 - second, 1.0 * second))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num((mean_b - mean_a) / np.sqrt(var_a / n_a + var_b / n_b), nan=0.0)


def _difference(samples: _Samples, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference of the means of every signal, its pooled standard deviation, and half of the difference's 95 % interval.

    Welch's t with the degrees of freedom of Satterthwaite (1946, doi:10.2307/3002019): a percentile bootstrap of three patients
    a group leaves out the truth in a fifth of the cases.
    """
    (n_a, mean_a, var_a), (n_b, mean_b, var_b) = (samples.moments(w[None]) for w in (1.0 - second, 1.0 * second))
    pooled = np.sqrt(((n_a - 1) * var_a + (n_b - 1) * var_b) / np.maximum(n_a + n_b - 2, 1))
    error_a, error_b = var_a / n_a, var_b / n_b
    error = error_a + error_b
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = error**2 / (error_a**2 / (n_a - 1) + error_b**2 / (n_b - 1))
    half = np.where(error > 0, t.ppf(0.975, freedom) * np.sqrt(error), np.nan)
    return (mean_b - mean_a)[0], np.where(pooled > 0, pooled, np.nan)[0], half[0]


def _permutation_p(x: np.ndarray, second: np.ndarray, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
    """(signals,) for values (patients, signals): groups are permuted among the patients in whom a signal was measured, so that
    one that is rare in a group is judged against groups as small as its own.
    """
    order = rng.permuted(np.tile(np.arange(len(second)), (n_permutations, 1)), axis=1)
    patterns, of_signal = np.unique(np.isfinite(x).T, axis=0, return_inverse=True)
    out = np.ones(x.shape[1])
    for number, measured in enumerate(patterns):
        mine = of_signal.ravel() == number
        samples, labels = _Samples(x[measured][:, mine]), second[measured]
        seen = np.abs(samples.welch(labels[None]))[0] * (1 - 1e-9)
        n, k = len(labels), int(labels.sum())
        every = comb(n, k) <= n_permutations
        draws = _choices(n, k) if every else iter(_drawn(order, measured, k))
        reached, drawn = np.zeros(len(seen)), 0
        while block := list(islice(draws, DRAWS_A_BLOCK)):
            reached += (np.abs(samples.welch(np.stack(block))) >= seen).sum(0)
            drawn += len(block)
        out[mine] = reached / drawn if every else (reached + 1) / (drawn + 1)
    return out


def _drawn(order: np.ndarray, measured: np.ndarray, k: int) -> np.ndarray:
    """(draws, measured patients) bool: the second group is the first k measured ones of each random order."""
    here = measured[order]
    chosen = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(chosen, order, here & (here.cumsum(1) <= k), axis=1)
    return chosen[:, measured]


def _choices(n: int, k: int) -> Iterator[np.ndarray]:
    """Every way to give the second group to k of n patients."""
    for chosen in combinations(range(n), k):
        labels = np.zeros(n, dtype=bool)
        labels[list(chosen)] = True
        yield labels
