"""Every CUDA kernel, and the variants of each source that are packed."""

from __future__ import annotations

from metaniche.ops.cuda import (
    autocorrelation,
    edge_attention,
    edge_null,
    hilbert,
    label_moments,
    label_null,
    neighbors,
    segment,
)
from metaniche.ops.cuda.specs import Defines

KERNELS = (
    *autocorrelation.KERNELS,
    *edge_attention.KERNELS,
    *edge_null.KERNELS,
    *hilbert.KERNELS,
    *label_moments.KERNELS,
    *label_null.KERNELS,
    *neighbors.KERNELS,
    *segment.KERNELS,
)
PACKED: dict[str, tuple[Defines, ...]] = {
    autocorrelation.SOURCE: autocorrelation.PACKED,
    edge_attention.SOURCE: edge_attention.PACKED,
    edge_null.SOURCE: edge_null.PACKED,
    hilbert.SOURCE: hilbert.PACKED,
    label_moments.SOURCE: label_moments.PACKED,
    label_null.SOURCE: label_null.PACKED,
    neighbors.SOURCE: neighbors.PACKED,
    neighbors.NEAREST.source: neighbors.PACKED_NEAREST,
    segment.SOURCE: segment.PACKED,
}
