"""Cells to one bag: gated attention whose result is a sum over cells, so that each cell's share is exact."""

import torch
from torch import Tensor, nn

from metaniche.ops.segment import segment_mean, segment_softmax, segment_sum


class AdditiveAttentionPooling(nn.Module):
    r"""Gated attention pooling of per-cell logits.

    .. math:: z_b = \sum_{i \in b} a_i f(h_i), \quad
              a_i \propto \exp\left(w^\top (\tanh(V h_i) \odot \sigma(U h_i))\right)

    Ilse et al. 2018 (arXiv 1802.04712) for the gate, Javed et al. 2022 (arXiv 2206.01794) for pooling logits rather than
    embeddings. Cells that are no candidates get a_i = 0; a bag without any candidate pools all of its cells.

    Shapes: h (N, width), bag_ptr (B + 1,), candidates (N,) bool -> cell logits (N, K), attention (N,), bag logits (B, K).
    """

    def __init__(self, width: int, n_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, n_outputs))
        self.tanh = nn.Linear(width, width // 2)
        self.gate = nn.Linear(width, width // 2)
        self.weight = nn.Linear(width // 2, 1)
        nn.init.zeros_(self.weight.weight)  # starts as the mean over cells

    def stay_uniform(self) -> None:
        """Keep the attention of a new layer as it starts: every candidate weighs the same, nothing of it is trained.

        Distributed training refuses parameters that no loss reaches, so whoever trains on cells alone calls this too.
        """
        for layer in (self.tanh, self.gate, self.weight):
            layer.requires_grad_(False)

    def forward(self, h: Tensor, bag_ptr: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.score(h)
        return logits, *self.weigh(h, logits, bag_ptr, candidates)

    def weigh(self, h: Tensor, logits: Tensor, bag_ptr: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Attention (N,) from h, and logits (N, K) summed with it per bag, (B, K)."""
        score = self.weight(torch.tanh(self.tanh(h)) * torch.sigmoid(self.gate(h)))
        attention = segment_softmax(score.masked_fill(~_poolable(candidates, bag_ptr)[:, None], -torch.inf), bag_ptr)
        return attention.squeeze(1), segment_sum(attention * logits, bag_ptr)

    def mean(self, h: Tensor, bag_ptr: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` without a gate: every pooled cell has an equal share."""
        logits, pooled = self.score(h), _poolable(candidates, bag_ptr)
        before = torch.cat((bag_ptr.new_zeros(1), pooled.cumsum(0)))[bag_ptr]  # pooled cells before each bag
        share = torch.repeat_interleave(1.0 / before.diff().clamp(min=1), bag_ptr.diff(), output_size=h.shape[0])
        return logits, share * pooled, segment_mean(logits[pooled], before)


def _poolable(candidates: Tensor, bag_ptr: Tensor) -> Tensor:
    """The candidates, or every cell of a bag that has none."""
    counts = segment_sum(candidates[:, None].float(), bag_ptr)[:, 0]
    return candidates | torch.repeat_interleave(counts == 0, bag_ptr.diff(), output_size=candidates.numel())
