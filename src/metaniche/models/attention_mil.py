"""AttentionMIL: gated attention over cells without any graph; what a network knows from the cells alone."""

from torch import Tensor

from metaniche.graph import CellGraph
from metaniche.models.mil import MIL


class AttentionMIL(MIL):
    """Attention-based multiple-instance learning (Ilse et al. 2018, arXiv 1802.04712): the graph is ignored."""

    hops = 0

    def encode(self, h: Tensor, graph: CellGraph) -> Tensor:
        return h
