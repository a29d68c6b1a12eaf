"""Every CUDA kernel, and the variants of each source that are packed."""

from __future__ import annotations

from metaniche.ops.cuda import edge_attention, edge_attention_tiles, hilbert, neighbors, segment
from metaniche.ops.cuda.specs import Defines

KERNELS = (
    *edge_attention.KERNELS,
    *edge_attention_tiles.KERNELS,
    *hilbert.KERNELS,
    *neighbors.KERNELS,
    *segment.KERNELS,
)
PACKED: dict[str, tuple[Defines, ...]] = {
    edge_attention.SOURCE: edge_attention.PACKED,
    edge_attention_tiles.SOURCE: edge_attention_tiles.PACKED,
    hilbert.SOURCE: hilbert.PACKED,
    neighbors.SOURCE: neighbors.PACKED,
    neighbors.NEAREST.source: neighbors.PACKED_NEAREST,
    segment.SOURCE: segment.PACKED,
}
