"""Layers: tensors in, tensors out, one layer per file. May import errors, ops and graph."""
