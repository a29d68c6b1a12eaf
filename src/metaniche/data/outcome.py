"""From a network's logits to what a task asks: risks, potentials of cells, survival curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaniche.data.task import Targets, Task

INTERVAL_Z = 1.645  # 90 % of a normal


def n_outputs(task: Task) -> int:
    """K of the network: of discrete time a hazard per interval, and with competing events one more for these."""
    if task.kind == "discrete_time":
        return task.n_bins * (2 if task.competing else 1)
    return len(task.sites) if task.kind == "sites" else 1


def of_event(task: Task, outputs: Tensor) -> Tensor:
    """(..., K) -> the outputs that speak of the event itself, and not of competing ones."""
    return outputs[..., : task.n_bins] if task.competing else outputs


def bin_edges(targets: Targets) -> list[float]:
    """Inner edges of `n_bins` intervals: quantiles of the training event times, so that intervals hold alike many events."""
    table = targets.table
    times = table.loc[table["event"] == 1, "time"]
    times = table["time"] if times.empty else times
    return np.quantile(times, np.linspace(0, 1, targets.task.n_bins + 1)[1:-1]).tolist()


def unit_risk(task: Task, logits: Tensor) -> Tensor:
    """(B, K) -> (B,): probability (binary), log-risk (Cox), probability of an event by the last edge (discrete time),
    mean probability over sites (sites)."""
    if task.kind == "binary":
        return torch.sigmoid(logits[:, 0])
    if task.kind == "cox":
        return logits[:, 0]
    if task.kind == "sites":
        return torch.sigmoid(logits).mean(1)
    # Not to the end of the last interval, which is open: nobody is seen to survive it, so its hazard is learned from events
    # alone, and those are late ones.
    return incidence(logits, task.n_bins)[:, -2]


def incidence(logits: Tensor, n_bins: int) -> Tensor:
    r"""(B, T) cumulative incidence of the event by the end of each interval.

    .. math:: F_t = \sum_{k \le t} h_k \prod_{l < k} (1 - h_l - g_l), \quad
        h = \frac{e^z}{1 + e^z + e^u}, \; g = \frac{e^u}{1 + e^z + e^u}

    with T logits z, and u of competing events where there are 2 T (Tutz and Schmid 2016, doi:10.1007/978-3-319-28158-2,
    chapter 8); without them it is one minus survival.
    """
    own = logits[:, :n_bins]
    total = log_total(logits, n_bins)
    free = torch.exp(-torch.cumsum(total, 1) + total)  # of any event, up to the start of each interval
    return torch.cumsum(torch.exp(own - total) * free, 1)


def log_total(logits: Tensor, n_bins: int) -> Tensor:
    """(B, T) minus the logarithm of the probability of no event of either kind in an interval."""
    own = logits[:, :n_bins]
    both = torch.logaddexp(own, logits[:, n_bins:]) if logits.shape[1] > n_bins else own
    return torch.nn.functional.softplus(both)


def cell_potential(task: Task, logits: Tensor) -> Tensor:
    """(N, K) -> (N,) in (0, 1): the metastatic potential of each cell, what the unit's risk would be made of it alone."""
    risk = unit_risk(task, logits)
    return torch.sigmoid(risk) if task.kind == "cox" else risk


def ensemble_risk(task: Task, logits: Tensor, *, of_cells: bool = False) -> tuple[float, float, float]:
    """(M, K) logits of an ensemble's members -> risk of their mean (`of_cells`: its potential), and the 90 % interval of
    their spread on the logit scale, NaN for one member. The spread of an ensemble promises no coverage."""
    say = cell_potential if of_cells else unit_risk
    mean = logits.mean(0, keepdim=True)
    if len(logits) < 2:
        return float(say(task, mean)[0]), np.nan, np.nan
    spread = INTERVAL_Z * logits.std(0, keepdim=True)
    if task.competing:  # the likelier a competing event, the less the event itself
        spread[:, task.n_bins :] *= -1
    return tuple(float(say(task, z)[0]) for z in (mean, mean - spread, mean + spread))


def discrete_survival(logits: np.ndarray, edges: list[float], index: pd.Index) -> pd.DataFrame:
    """(B, K) hazards' logits -> probability of no event by each inner edge: a row per unit, a column per time."""
    by_edge = incidence(torch.as_tensor(logits, dtype=torch.float64), len(edges) + 1)[:, :-1]
    curves = pd.DataFrame(1.0 - by_edge.numpy(), index=index, columns=list(edges))
    return curves.loc[:, ~curves.columns.duplicated(keep="last")]  # an interval between tied times is empty


def breslow(risk: np.ndarray, time: np.ndarray, event: np.ndarray) -> tuple[list[float], list[float]]:
    """Breslow's cumulative baseline hazard (1972): event times and the hazard accumulated by each."""
    times = np.unique(time[event == 1])
    at_risk = np.array([np.exp(risk[time >= t]).sum() for t in times])
    deaths = np.array([(event[time == t] == 1).sum() for t in times])
    return times.tolist(), np.cumsum(deaths / at_risk).tolist()


def cox_survival(risk: np.ndarray, times: list[float], hazard: list[float], index: pd.Index) -> pd.DataFrame:
    """Survival of units with these log-risks: a row per unit, a column per event time."""
    return pd.DataFrame(np.exp(-np.exp(risk)[:, None] * np.asarray(hazard)[None]), index=index, columns=times)
