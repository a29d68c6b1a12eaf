"""Every CUDA kernel, and the variants of each source that are packed."""

from __future__ import annotations

from metaniche.ops.cuda import csr_encoder, edge_attention, hilbert, neighbors, segment, transport
from metaniche.ops.cuda.specs import Defines

KERNELS = (
    *csr_encoder.KERNELS,
    *edge_attention.KERNELS,
    *hilbert.KERNELS,
    *neighbors.KERNELS,
    *segment.KERNELS,
    *transport.KERNELS,
)
PACKED: dict[str, tuple[Defines, ...]] = {
    csr_encoder.SOURCE: csr_encoder.PACKED,
    edge_attention.SOURCE: edge_attention.PACKED,
    hilbert.SOURCE: hilbert.PACKED,
    neighbors.SOURCE: neighbors.PACKED,
    neighbors.NEAREST.source: neighbors.PACKED_NEAREST,
    segment.SOURCE: segment.PACKED,
    transport.SOURCE: transport.PACKED,
}
