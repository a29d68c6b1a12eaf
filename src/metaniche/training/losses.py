"""Losses of the heads; logits and labels in, one number out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from metaniche.data.outcome import log_total


def masked_binary_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross entropy over labels that are not NaN; 0 where there is none.

    Shapes: logits and target (B, K), target in {0, 1, NaN}.
    """
    known = torch.isfinite(target)
    if not known.any():
        return logits.sum() * 0.0
    return binary_cross_entropy_with_logits(logits[known], target[known])


def cell_loss(logits: Tensor, target: Tensor, bag_ptr: Tensor) -> Tensor:
    """Binary cross entropy over labelled cells; every patient counts the same, however many of its cells have a label.

    Shapes: logits (N,), target (N,) with NaN where unlabelled, bag_ptr (B + 1,).
    """
    known = torch.isfinite(target)
    bag = torch.repeat_interleave(torch.arange(bag_ptr.numel() - 1, device=logits.device), bag_ptr.diff())[known]
    if bag.numel() == 0:
        return logits.sum() * 0.0
    per_cell = binary_cross_entropy_with_logits(logits[known], target[known], reduction="none")
    counts = torch.bincount(bag, minlength=bag_ptr.numel() - 1)
    return (per_cell / counts[bag]).sum() / (counts > 0).sum()


def cox_loss(risk: Tensor, time: Tensor, event: Tensor) -> Tensor:
    r"""Negative log partial likelihood per event, ties by Efron (1977, 10.1080/01621459.1977.10480613).

    .. math:: -\frac{1}{d}\sum_t \Big[\sum_{i \in D_t} r_i - \sum_{l=0}^{d_t - 1}
              \log\Big(\sum_{j: T_j \ge t} e^{r_j} - \frac{l}{d_t} \sum_{i \in D_t} e^{r_i}\Big)\Big]

    Shapes: risk, time, event (B,); all B are the risk set. 0 where nobody has an event.
    """
    device = risk.device
    # (B,) is small, and the host reads it several times below; nor does CUDA's cumsum add floats in one order.
    risk, time, event = risk.cpu(), time.cpu(), event.cpu()
    if not (event > 0).any():
        return risk.sum().to(device) * 0.0
    order = torch.argsort(time, descending=True, stable=True)
    risk, time, event = risk[order], time[order], event[order] > 0
    offset = risk.detach().max()
    hazard = torch.exp(risk - offset)
    _, group = torch.unique_consecutive(time, return_inverse=True)
    n_groups = int(group[-1]) + 1
    zeros = hazard.new_zeros(n_groups)
    at_risk = zeros.index_add(0, group, hazard).cumsum(0)
    tied = zeros.index_add(0, group[event], hazard[event])
    deaths = torch.bincount(group[event], minlength=n_groups)
    of_death = torch.repeat_interleave(torch.arange(n_groups), deaths)
    rank = torch.arange(of_death.numel()) - (deaths.cumsum(0) - deaths)[of_death]
    share = rank.to(risk.dtype) / deaths[of_death]
    log_terms = torch.log(at_risk[of_death] - share * tied[of_death]) + offset
    return ((log_terms.sum() - risk[event].sum()) / deaths.sum()).to(device)


def discrete_time_loss(
    logits: Tensor, time: Tensor, event: Tensor, bin_edges: Tensor, competing: Tensor | None = None
) -> Tensor:
    """Mean negative log likelihood of logistic hazards (Gensheimer & Narasimhan 2019, 10.7717/peerj.6257); with competing
    events, of the multinomial hazards of `data.outcome.incidence`.

    Shapes: logits (B, T), one hazard per interval, or (B, 2 T), those of competing events last; time, event, competing (B,);
    bin_edges (T - 1,) inner edges, ascending. A patient counts in every interval survived, a censored one also in the last
    where it was seen beyond the middle, and in the interval of an event.
    """
    n_bins = len(bin_edges) + 1
    interval = torch.bucketize(time.contiguous(), bin_edges)
    total = log_total(logits, n_bins)
    middle = (torch.cat((torch.zeros_like(bin_edges[:1]), bin_edges[:-1])) + bin_edges) / 2
    middle = torch.cat((middle, torch.full_like(bin_edges[:1], torch.inf)))[interval]
    censored = (event == 0) if competing is None else (event == 0) & (competing == 0)
    survived = interval + (censored & (time > middle))
    before = torch.arange(n_bins, device=logits.device)[None] < survived[:, None]
    loss = (total * before).sum(1)
    in_last = total.gather(1, interval[:, None]).squeeze(1)
    for happened, first in ((event, 0), *(() if competing is None else ((competing, n_bins),))):
        own = logits.gather(1, first + interval[:, None]).squeeze(1)
        loss = loss + torch.where(happened > 0, in_last - own, 0.0)
    return loss.mean()
