"""MIL: what all networks share: cells are encoded, scored, and pooled to the patient, clinical variables join last."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from metaniche.graph import CellGraph
from metaniche.nn.additive_pooling import AdditiveAttentionPooling


class MILOutput(NamedTuple):
    """cell_logits (N, K), attention (N,) summing to 1 per bag, bag_logits (B, K), embedding (N, width).

    Where cell logits are a sum of named terms, `terms` (N, T, K) holds them; `penalty`, there in training only,
    is added to the loss.
    """

    cell_logits: Tensor
    attention: Tensor
    bag_logits: Tensor
    embedding: Tensor
    terms: Tensor | None = None
    penalty: Tensor | None = None

    def cpu(self) -> "MILOutput":
        """The same on the CPU."""
        return MILOutput(*(x if x is None else x.cpu() for x in self))

    def of_bag(self) -> Tensor:
        """(T, K) terms of the logits of a batch's one bag; clinical variables are none of them."""
        return (self.attention[:, None, None] * self.terms).sum(0)


class MIL(nn.Module):
    """Multiple-instance learning over cells; a subclass says how a cell is encoded, and may say how cells are pooled.

    Parameters
    ----------
    n_features
        F, columns of x.
    n_outputs
        K: 1 for a binary label or Cox, bins for discrete time, sites for organ sites.
    n_clinical
        C, clinical columns fused late (a linear term beside the pooled cells); 0 for none.
    width
        Embedding width.
    dropout
        Probability used throughout.
    """

    hops: int  # how far a cell hears, in steps of the graph, which every subclass says; 0: cells are encoded alone
    reads_pairs: ClassVar[bool] = False  # True: takes `pairs`, and `signals` with every batch
    terms: ClassVar[tuple[str, ...]] = ()  # names of `MILOutput.terms`

    def __init__(
        self, n_features: int, n_outputs: int, n_clinical: int = 0, *, width: int = 32, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(n_features, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.pool = AdditiveAttentionPooling(width, n_outputs, dropout)
        self.clinical = nn.Linear(n_clinical, n_outputs, bias=False) if n_clinical else None

    @abstractmethod
    def encode(self, h: Tensor, graph: CellGraph) -> Tensor:
        """Embedded cells (N, width) -> cells that know their surroundings (N, width)."""

    def pooled(self, h: Tensor, bag_ptr: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cells to bags, as AdditiveAttentionPooling: cell logits (N, K), attention (N,), bag logits (B, K)."""
        return self.pool(h, bag_ptr, candidates)

    def forward(
        self,
        x: Tensor,
        graph: CellGraph,
        bag_ptr: Tensor,
        candidates: Tensor,
        clinical: Tensor | None = None,
        signals: Tensor | None = None,
        surroundings: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> MILOutput:
        """x (N, F), bag_ptr (B + 1,), candidates (N,) bool, clinical (B, C) -> MILOutput.

        `signals` (N, S), `surroundings` and `inside` (N,) as in `data.batch.Piece`, for networks that read them.
        """
        h = self.encode(self.embed(x), graph)
        cell_logits, attention, bag_logits = self.pooled(h, bag_ptr, candidates)
        return MILOutput(cell_logits, attention, self.with_clinical(bag_logits, clinical), h)

    def with_clinical(self, bag_logits: Tensor, clinical: Tensor | None) -> Tensor:
        """The bags' logits and, where there are any, those of the clinical variables (B, C)."""
        if self.clinical is None or clinical is None:
            return bag_logits
        return bag_logits + self.clinical(torch.nan_to_num(clinical))
