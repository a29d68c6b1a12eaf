"""Graphs of which some edges stand for several neighbours."""

from dataclasses import replace

import torch

from metaniche.graph import CellGraph, GraphConfig, build_graph

N_CELLS = 1500
POS = torch.rand(N_CELLS, 2, generator=torch.Generator().manual_seed(3)) * (N_CELLS / 0.007) ** 0.5


def tissue(max_paracrine: int | None) -> CellGraph:
    """Cells as dense as in tumours: some 400 neighbours within 150 um, fewer at the rim."""
    return build_graph(POS, torch.tensor([0, N_CELLS]), GraphConfig(max_paracrine=max_paracrine))


def thrice() -> tuple[CellGraph, CellGraph, torch.Tensor]:
    """Cell 0 beside 1 and 2 in two graphs, and (5,) who is who: 2 counts thrice in one, and is there thrice in the other."""
    pos = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 9.0], [0.0, 9.0], [0.0, 9.0]])
    whole = build_graph(pos, torch.tensor([0, 5]), GraphConfig())
    whole = whole.keep(whole.receivers() == 0)
    drawn = whole.keep(whole.indices < 3)
    return replace(drawn, weight=torch.tensor([1.0, 3.0])), whole, torch.tensor([0, 1, 2, 2, 2])
