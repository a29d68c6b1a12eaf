"""Cell-cell communication: pairs of ligands and receptors, their signals over the graph of a sample, and valid nulls.

May import errors, ops, io and graph.
"""

from metaniche.signaling.competition import TypeFlows, compete, competing_signals, flows_between_types
from metaniche.signaling.decay import DECAYS, Decay
from metaniche.signaling.differential import differential_communication
from metaniche.signaling.edges import EdgeSignals, sent_direction, strongest_edges
from metaniche.signaling.expression import PairExpression, pair_expression
from metaniche.signaling.length_scale import LengthScale, length_profile, length_scale
from metaniche.signaling.local import global_association, global_scores, local_association, local_scores
from metaniche.signaling.matched_pairs import matched_pairs_null
from metaniche.signaling.patients import SIGNAL, consistent_signals
from metaniche.signaling.readers import liana_resources, open_resource, read_liana, read_resource, read_targets
from metaniche.signaling.relay import RELAY, relay, relay_chains, relay_null, relays
from metaniche.signaling.resources import SIGNALING_TYPES, Overlap, Resource, subunits
from metaniche.signaling.scoring import Communication, communicate, estimate_memory, signal_problem
from metaniche.signaling.shifts import shift_null
from metaniche.signaling.signal_config import GRAPH, NULL_MODELS, SCORES, SignalConfig, graph_within

__all__ = [
    "DECAYS",
    "GRAPH",
    "NULL_MODELS",
    "RELAY",
    "SCORES",
    "SIGNAL",
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
    "competing_signals",
    "consistent_signals",
    "differential_communication",
    "estimate_memory",
    "flows_between_types",
    "global_association",
    "global_scores",
    "graph_within",
    "length_profile",
    "length_scale",
    "liana_resources",
    "local_association",
    "local_scores",
    "matched_pairs_null",
    "open_resource",
    "pair_expression",
    "read_liana",
    "read_resource",
    "read_targets",
    "relay",
    "relay_chains",
    "relay_null",
    "relays",
    "sent_direction",
    "shift_null",
    "signal_problem",
    "strongest_edges",
    "subunits",
]
