"""Whole networks, and the bundle people exchange. In: tensors and a CellGraph. May import errors, ops, graph and nn;
the bundle also io and data."""

from metaniche.models.attention_mil import AttentionMIL
from metaniche.models.gatv2_mil import GATv2MIL
from metaniche.models.mil import MIL, MILOutput
from metaniche.models.niche_gin import NicheGIN
from metaniche.models.relational_mil import RelationalMIL
from metaniche.models.seed_soil import SeedSoil

# The closed table of architectures that a bundle may name.
ARCHITECTURES = {c.__name__: c for c in (SeedSoil, RelationalMIL, AttentionMIL, NicheGIN, GATv2MIL)}

__all__ = ["ARCHITECTURES", "MIL", "AttentionMIL", "GATv2MIL", "MILOutput", "NicheGIN", "RelationalMIL", "SeedSoil"]
