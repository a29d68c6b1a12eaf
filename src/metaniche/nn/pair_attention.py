"""How much a cell hears by its ligand-receptor pairs: mass action over a learned range, against a slot for "no signal"."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metaniche.graph import CellGraph
from metaniche.nn.length_scale import LengthScale, Range
from metaniche.ops.ligrec import LigandReceptor, received_by_pair
from metaniche.ops.pair_logits import pair_logits
from metaniche.ops.segment import segment_sum

STEP = 50.0  # how far a step of the optimiser moves the logarithm of a weight: one pair of hundreds must be able to win
NULL = 2.3  # where null slots start: about what a cell hears at random within the range of a chemokine


class PairAttention(nn.Module):
    r"""Attention of receivers over senders within one signaling family, head by head, of which only the amount is kept.

    .. math::
        heard_i = \frac{\sum_j a_{ij}}{1 + e^{-null} \sum_j a_{ij}}, \quad
        a_{ij} = \kappa(d_{ij}) \sum_p w_p L_{jp} R_{ip}, \quad w = \mathrm{softmax}(\theta) \, scale

    with ligand L and receptor R saturated, in [0, 1), and the kernel of `LengthScale`, times the weight of the edge where the
    graph holds a draw of neighbours: the sum then estimates that over all. It is :math:`e^{null}` times what a
    softmax over senders with logits :math:`\log a` and a null slot leaves to them, and additive in the pairs: the share of
    pair p in an edge is :math:`\kappa w_p L R` over the denominator, exactly. The null slot makes it saturate, as receptors
    do: far below it, what is heard is the sum of the signals, and without any pair there is nothing to hear.

    Messages say how much, not from whom: a sender's state would tell the receiver of its surroundings under the name of a
    pair, and a network that can say so takes that way (seed and soil have terms of their own).

    Weights grow multiplicatively and compete, since one pair of hundreds may carry the outcome; `scale` is one over what
    the pair has where cells are mixed at random, so that pairs that every cell expresses do not drown the rare ones.

    Mass action is `ops.pair_logits`; nothing is E x P.

    Parameters
    ----------
    ligand, receptor, scale
        (P,) columns of each pair's sides in `signals`, and its scale.
    heads
        Each with its own weights per pair, range and null slot.
    length
        None: distance does not count.
    """

    def __init__(
        self,
        ligand: Sequence[int],
        receptor: Sequence[int],
        scale: Sequence[float],
        heads: int,
        length: Range | None,
    ) -> None:
        super().__init__()
        self.register_buffer("ligand", torch.tensor(ligand, dtype=torch.int32), persistent=False)
        self.register_buffer("receptor", torch.tensor(receptor, dtype=torch.int32), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        self.raw_weight = nn.Parameter(torch.zeros(heads, len(ligand)))
        self.null = nn.Parameter(torch.full((heads,), NULL))
        self.length = LengthScale(length, heads) if length else None

    @property
    def weight(self) -> Tensor:
        """(heads, P) weight of each pair, 0 or above."""
        return torch.softmax(STEP * self.raw_weight, dim=1) * self.scale

    def forward(self, signals: Tensor, graph: CellGraph) -> Tensor:
        """signals (N, S) saturated expression -> how much each cell hears, (N, heads)."""
        return self.of_amounts(self.amounts(signals, graph), graph)

    def amounts(self, signals: Tensor, graph: CellGraph) -> Tensor:
        """(E, heads) what comes along each edge, before its receiver saturates."""
        return self._kernel(graph) * self._mass(signals, graph)

    def of_amounts(self, amounts: Tensor, graph: CellGraph) -> Tensor:
        """(N, heads) how much each cell hears when this much (E, heads) comes along its edges."""
        return _saturated_by(self.null, segment_sum(amounts, graph.indptr))

    def bag_under(self, weigh: Tensor, signals: Tensor, graph: CellGraph, kept: Tensor) -> Tensor:
        """(S, heads) `forward` summed over cells with `weigh` (N,), of those pairs alone with a 1 in a row of `kept` (S, P)."""
        weights = self.weight
        kernel = self._kernel(graph).expand(-1, len(weights))
        out = signals.new_zeros(len(kept), len(weights))
        for head, (weight, null) in enumerate(zip(weights, self.null)):
            sides = signals, signals, self.ligand, self.receptor
            problem = LigandReceptor(*sides, graph.indptr, graph.indices, kernel[:, head].contiguous())
            by_pair = (kept * weight).T
            for start, amounts in received_by_pair(problem):  # some cells by pairs
                heard = _saturated_by(null, amounts.to(kept.dtype) @ by_pair)
                out[:, head] += weigh[start : start + len(heard)] @ heard
        return out

    def per_mass(self, signals: Tensor, graph: CellGraph) -> Tensor:
        r"""(E, heads) heard per unit of mass action: times :math:`w_p L R` it is the share of a pair in an edge."""
        return self._saturated(self._kernel(graph), self._mass(signals, graph), graph)

    def along(self, signals: Tensor, graph: CellGraph) -> Tensor:
        """(E, heads) heard along each edge; over the edges of a receiver it sums to `forward`."""
        mass = self._mass(signals, graph)
        return mass * self._saturated(self._kernel(graph), mass, graph)

    def _saturated(self, kernel: Tensor, mass: Tensor, graph: CellGraph) -> Tensor:
        """(E, heads) kernel over the denominator of the receiver."""
        sent = segment_sum(kernel * mass, graph.indptr)
        return kernel / (1 + sent * torch.exp(-self.null))[graph.receivers()]

    def _mass(self, signals: Tensor, graph: CellGraph) -> Tensor:
        sides = signals, signals, self.weight, self.ligand, self.receptor
        return pair_logits(*sides, graph.indptr, graph.indices)

    def _kernel(self, graph: CellGraph) -> Tensor:
        """(E, heads or 1), for all neighbours that an edge stands for."""
        kernel = self.length(graph.distance_um).exp() if self.length else torch.ones_like(graph.distance_um)[:, None]
        return graph.times_weight(kernel)


def _saturated_by(null: Tensor, sent: Tensor) -> Tensor:
    """What is heard of an amount beside a slot for "no signal"."""
    return sent / (1 + sent * torch.exp(-null))
