"""Cell-cell communication: pairs of ligands and receptors, their signals over the graph of a sample, and valid nulls.

May import errors, ops, io and graph.
"""

from metaniche.signaling.competition import TypeFlows, compete, flows_between_types
from metaniche.signaling.decay import DECAYS, Decay
from metaniche.signaling.differential import differential_communication
from metaniche.signaling.edges import EdgeSignals, sent_direction, strongest_edges
from metaniche.signaling.expression import PairExpression, pair_expression
from metaniche.signaling.length_scale import LengthScale, length_profile, length_scale
from metaniche.signaling.local import global_association, local_association
from metaniche.signaling.matched_pairs import matched_pairs_p
from metaniche.signaling.nulls import NULLS
from metaniche.signaling.patients import consistent_signals
from metaniche.signaling.readers import liana_resources, open_resource, read_liana, read_resource
from metaniche.signaling.relay import relay, relay_chains
from metaniche.signaling.resources import SIGNALING_TYPES, Overlap, Resource, subunits
from metaniche.signaling.scoring import (
    GRAPH,
    SCORES,
    Communication,
    SignalConfig,
    communicate,
    estimate_memory,
    signal_problem,
)

__all__ = [
    "DECAYS",
    "GRAPH",
    "NULLS",
    "SCORES",
    "SIGNALING_TYPES",
    "Communication",
    "Decay",
    "EdgeSignals",
    "LengthScale",
    "Overlap",
    "PairExpression",
    "Resource",
    "SignalConfig",
    "TypeFlows",
    "communicate",
    "compete",
    "consistent_signals",
    "differential_communication",
    "estimate_memory",
    "flows_between_types",
    "global_association",
    "length_profile",
    "length_scale",
    "liana_resources",
    "local_association",
    "matched_pairs_p",
    "open_resource",
    "pair_expression",
    "read_liana",
    "read_resource",
    "relay",
    "relay_chains",
    "sent_direction",
    "signal_problem",
    "strongest_edges",
    "subunits",
]
