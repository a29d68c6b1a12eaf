"""Ligand-receptor knowledge: tables of pairs in, what a panel of genes can measure of them out.

May import errors, ops, io and graph.
"""

from metaniche.signaling.readers import liana_resources, read_liana, read_resource
from metaniche.signaling.resources import SIGNALING_TYPES, Overlap, Resource

__all__ = ["SIGNALING_TYPES", "Overlap", "Resource", "liana_resources", "read_liana", "read_resource"]
