"""How well a risk orders times to event, how well survival curves fit: Harrell's C, Uno's C, integrated Brier."""

from __future__ import annotations

import numpy as np

from metaniche.metrics.weighting import as_rows, ratio, unwrap

TIED_RISK = 1e-8


def harrell_c(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, weight: np.ndarray | None = None
) -> float | np.ndarray:
    """Harrell's concordance index (JAMA 1982, doi:10.1001/jama.1982.03320430047030).

    Parameters
    ----------
    time, event, risk
        (n,) time to event or censoring; 1 for an event, 2 for a competing one after which it cannot come, 0 for censored;
        and a risk where higher means sooner.
    weight
        None, (n,), or (B, n) for B weightings at once.

    Returns
    -------
    float, or (B,); NaN without a comparable pair.
    """
    return concordance(time, event, risk, weight=weight)


def uno_c(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    train_time: np.ndarray,
    train_event: np.ndarray,
    tau: float | None = None,
    weight: np.ndarray | None = None,
) -> float | np.ndarray:
    """Uno's concordance index (doi:10.1002/sim.4154): pairs weighted by 1 / G(t-)^2 of the training set's censoring; a pair of
    which the other had its competing event first, by one over both (Wolbers et al. 2014, doi:10.1093/biostatistics/kxt059).

    Events at or after `tau`, and those where nobody of the training set could still be observed (G = 0), are left out.
    """
    at_event = censoring_survival(train_time, train_event, time, before=True)
    return concordance(time, event, risk, at_event, tau, weight)


def concordance(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    censoring: np.ndarray | None = None,
    tau: float | None = None,
    weight: np.ndarray | None = None,
) -> float | np.ndarray:
    """Weighted share of comparable pairs in which the earlier event has the higher risk; ties in risk count one half.

    A pair (i, j) is comparable when i has an event before j's time, or at it while j is censored, or when j had a competing
    event: it will never have this one (Wolbers et al. 2009, doi:10.1097/EDE.0b013e3181a39056). With `censoring`
    (n,), G just before each unit's own time, pairs are weighted as `uno_c` does; those that unit i leads count before `tau`.
    """
    time, risk = np.asarray(time, dtype=float), np.asarray(risk, dtype=float)
    happened = np.asarray(event, dtype=float) == 1
    until = np.where(np.asarray(event, dtype=float) == 2, np.inf, time)
    rows = as_rows(weight, time.size)
    if np.isnan(risk).any():
        return unwrap(np.full(rows.shape[0], np.nan), weight)
    later = (time[:, None] < until[None]) | ((time[:, None] == until[None]) & ~happened[None])
    leads = happened if tau is None else happened & (time < tau)
    pairs = (leads[:, None] & later).astype(float)
    if censoring is not None:
        inverse = np.nan_to_num(ratio(np.ones(time.size), np.asarray(censoring, dtype=float)))
        pairs *= inverse[:, None] * np.where(time[:, None] <= time[None], inverse[:, None], inverse[None])
    gap = risk[:, None] - risk[None]
    won = pairs * np.where(np.abs(gap) <= TIED_RISK, 0.5, gap > 0)
    return unwrap(ratio(((rows @ won) * rows).sum(1), ((rows @ pairs) * rows).sum(1)), weight)


def integrated_brier(
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    grid: np.ndarray,
    train_time: np.ndarray,
    train_event: np.ndarray,
    weight: np.ndarray | None = None,
) -> float | np.ndarray:
    """Censoring-weighted Brier score of survival curves, averaged over the span of `grid` (Graf 1999,
    doi:10.1002/(SICI)1097-0258(19990915/30)18:17/18<2529::AID-SIM274>3.0.CO;2-5).

    Parameters
    ----------
    time, event
        (n,) test units.
    survival
        (n, T) probability of no event by each time of `grid`; with competing events one minus the cumulative incidence.
    grid
        (T,) ascending times, T >= 2.
    train_time, train_event
        (m,) training units, from which the censoring distribution is estimated.
    """
    at_event = censoring_survival(train_time, train_event, time, before=True)
    at_grid = np.broadcast_to(censoring_survival(train_time, train_event, grid), np.shape(survival))
    errors = brier_contributions(time, event, survival, grid, at_event, at_grid)
    rows = as_rows(weight, errors.size)
    return unwrap(ratio(rows @ errors, rows.sum(1)), weight)


def brier_contributions(
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    grid: np.ndarray,
    censoring_at_time: np.ndarray,
    censoring_at_grid: np.ndarray,
) -> np.ndarray:
    """(n,) each unit's term of the integrated Brier score; its mean over units is the score. After a competing event a unit is
    known to stay without this one (Schoop et al. 2011, doi:10.1002/bimj.201000073).

    `censoring_at_time` (n,) and `censoring_at_grid` (n, T) are G just before each unit's own time and at the grid; they may
    come from another training fold for every unit.
    """
    time, grid = np.asarray(time, dtype=float), np.asarray(grid, dtype=float)
    kind, past = np.asarray(event, dtype=float)[:, None], time[:, None] <= grid
    had_event, had_other, at_risk = past & (kind == 1), past & (kind == 2), ~past
    inverse_time = np.nan_to_num(ratio(np.ones(time.size), np.asarray(censoring_at_time)))[:, None]
    inverse_grid = np.nan_to_num(ratio(np.ones(np.shape(survival)), np.asarray(censoring_at_grid)))
    without = had_other * inverse_time + at_risk * inverse_grid
    brier = survival**2 * had_event * inverse_time + (1.0 - survival) ** 2 * without
    return np.trapezoid(brier, grid, axis=1) / (grid[-1] - grid[0])


def censoring_survival(
    train_time: np.ndarray, train_event: np.ndarray, times: np.ndarray, *, before: bool = False
) -> np.ndarray:
    """Kaplan-Meier probability G(t) of being uncensored at each of `times`; events (of any kind) come before censorings at
    ties. `before`: G(t-), the probability that an event at that time was seen.
    """
    train_time = np.asarray(train_time, dtype=float)
    happened = np.asarray(train_event, dtype=float) > 0
    unique, index = np.unique(train_time, return_inverse=True)
    censored = np.bincount(index, weights=~happened, minlength=unique.size)
    events = np.bincount(index, weights=happened, minlength=unique.size)
    at_risk = np.cumsum((censored + events)[::-1])[::-1] - events
    step = 1.0 - np.nan_to_num(ratio(censored, at_risk))
    curve = np.append(1.0, np.cumprod(step))
    return curve[np.searchsorted(unique, np.asarray(times, dtype=float), side="left" if before else "right")]


def partial_log_likelihood(time: np.ndarray, event: np.ndarray, log_risk: np.ndarray) -> float:
    """Cox's log partial likelihood of these log-risks, ties by Breslow."""
    order = np.argsort(-np.asarray(time, dtype=float), kind="stable")
    ordered = np.asarray(time, dtype=float)[order]
    at_risk = np.logaddexp.accumulate(np.asarray(log_risk, dtype=float)[order])
    last = np.searchsorted(-ordered, -ordered, side="right") - 1
    return float(np.sum(np.asarray(event, dtype=float)[order] * (np.asarray(log_risk)[order] - at_risk[last])))
