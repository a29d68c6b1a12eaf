"""What a CUDA op must do, whoever runs it: fibers on the host, or a GPU. A case takes the tensors' device."""

from simt.cases import (
    autocorrelation,
    csr_encoder,
    edge_attention,
    edge_attention_tiles,
    edge_null,
    expression,
    hilbert,
    label_null,
    ligrec,
    neighbors,
    pair_logits,
    segment,
    transport,
)

ALL = (
    *edge_attention.CASES,
    *edge_attention_tiles.CASES,
    *segment.CASES,
    *hilbert.CASES,
    *neighbors.CASES,
    *expression.CASES,
    *ligrec.CASES,
    *pair_logits.CASES,
    *csr_encoder.CASES,
    *transport.CASES,
    *edge_null.CASES,
    *autocorrelation.CASES,
    *label_null.CASES,
    *label_null.MOMENTS,
)
# By source: a few that together notice every mutant of it.
SHORT = {
    "autocorrelation": autocorrelation.SHORT,
    "csr_encoder": csr_encoder.SHORT,
    "edge_attention": edge_attention.SHORT,
    "edge_attention_tiles": edge_attention_tiles.SHORT,
    "edge_null": edge_null.SHORT,
    "expression": expression.SHORT,
    "hilbert": hilbert.SHORT,
    "label_moments": label_null.MOMENTS_SHORT,
    "label_null": label_null.SHORT,
    "ligrec": ligrec.SHORT,
    "neighbors": neighbors.RADIUS_SHORT,
    "nearest": neighbors.NEAREST_SHORT,
    "nearest_few": neighbors.FEW_SHORT,
    "pair_logits": pair_logits.SHORT,
    "segment": segment.SHORT,
    "transport": transport.SHORT,
}
