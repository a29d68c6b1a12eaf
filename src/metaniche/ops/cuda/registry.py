"""Every CUDA kernel, and the variants of each source that are packed."""

from __future__ import annotations

from metaniche.ops.cuda import (
    autocorrelation,
    csr_encoder,
    edge_attention,
    edge_attention_tiles,
    edge_null,
    expression,
    hilbert,
    label_moments,
    label_null,
    ligrec,
    nearest,
    neighbors,
    pair_logits,
    segment,
    transport,
)
from metaniche.ops.cuda.specs import Defines

KERNELS = (
    *autocorrelation.KERNELS,
    *csr_encoder.KERNELS,
    *edge_attention.KERNELS,
    *edge_attention_tiles.KERNELS,
    *edge_null.KERNELS,
    *expression.KERNELS,
    *hilbert.KERNELS,
    *label_moments.KERNELS,
    *label_null.KERNELS,
    *ligrec.KERNELS,
    *nearest.KERNELS,
    *neighbors.KERNELS,
    *pair_logits.KERNELS,
    *segment.KERNELS,
    *transport.KERNELS,
)
PACKED: dict[str, tuple[Defines, ...]] = {
    autocorrelation.SOURCE: autocorrelation.PACKED,
    csr_encoder.SOURCE: csr_encoder.PACKED,
    edge_attention.SOURCE: edge_attention.PACKED,
    edge_attention_tiles.SOURCE: edge_attention_tiles.PACKED,
    edge_null.SOURCE: edge_null.PACKED,
    expression.SOURCE: expression.PACKED,
    hilbert.SOURCE: hilbert.PACKED,
    label_moments.SOURCE: label_moments.PACKED,
    label_null.SOURCE: label_null.PACKED,
    ligrec.SOURCE: ligrec.PACKED,
    neighbors.SOURCE: neighbors.PACKED,
    nearest.SOURCE: nearest.PACKED,
    nearest.SOURCE_FEW: nearest.PACKED_FEW,
    pair_logits.SOURCE: pair_logits.PACKED,
    segment.SOURCE: segment.PACKED,
    transport.SOURCE: transport.PACKED,
}
