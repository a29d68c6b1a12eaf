"""Every CUDA kernel, and the variants of each source that are packed."""

from __future__ import annotations

from metaniche.ops.cuda import (
    csr_encoder,
    edge_attention,
    edge_attention_tiles,
    expression,
    hilbert,
    ligrec,
    neighbors,
    pair_logits,
    segment,
    transport,
)
from metaniche.ops.cuda.specs import Defines

KERNELS = (
    *csr_encoder.KERNELS,
    *edge_attention.KERNELS,
    *edge_attention_tiles.KERNELS,
    *expression.KERNELS,
    *hilbert.KERNELS,
    *ligrec.KERNELS,
    *neighbors.KERNELS,
    *pair_logits.KERNELS,
    *segment.KERNELS,
    *transport.KERNELS,
)
PACKED: dict[str, tuple[Defines, ...]] = {
    csr_encoder.SOURCE: csr_encoder.PACKED,
    edge_attention.SOURCE: edge_attention.PACKED,
    edge_attention_tiles.SOURCE: edge_attention_tiles.PACKED,
    expression.SOURCE: expression.PACKED,
    hilbert.SOURCE: hilbert.PACKED,
    ligrec.SOURCE: ligrec.PACKED,
    neighbors.SOURCE: neighbors.PACKED,
    neighbors.NEAREST.source: neighbors.PACKED_NEAREST,
    pair_logits.SOURCE: pair_logits.PACKED,
    segment.SOURCE: segment.PACKED,
    transport.SOURCE: transport.PACKED,
}
