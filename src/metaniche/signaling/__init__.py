"""Cell-cell communication: pairs of ligands and receptors, their signals over the graph of a sample, and valid nulls.

May import errors, ops, io and graph.
"""

from metaniche.signaling.decay import DECAYS, Decay
from metaniche.signaling.differential import differential_communication
from metaniche.signaling.nulls import NULLS
from metaniche.signaling.patients import consistent_signals
from metaniche.signaling.readers import liana_resources, open_resource, read_liana, read_resource
from metaniche.signaling.resources import SIGNALING_TYPES, Overlap, Resource
from metaniche.signaling.scoring import GRAPH, SCORES, Communication, SignalConfig, communicate, estimate_memory

__all__ = [
    "DECAYS",
    "GRAPH",
    "NULLS",
    "SCORES",
    "SIGNALING_TYPES",
    "Communication",
    "Decay",
    "Overlap",
    "Resource",
    "SignalConfig",
    "communicate",
    "consistent_signals",
    "differential_communication",
    "estimate_memory",
    "liana_resources",
    "open_resource",
    "read_liana",
    "read_resource",
]
