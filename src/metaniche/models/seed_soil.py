"""SeedSoil: metastatic potential as what a cell is (seed), where it stands (soil), and what it hears (signals)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaniche.errors import ConfigError
from metaniche.graph import RELATIONS, CellGraph
from metaniche.models.mil import MIL, MILOutput
from metaniche.nn.context_attention import ContextAttention
from metaniche.nn.length_scale import Range
from metaniche.nn.loudness import Loudness
from metaniche.nn.neighbourhood import Neighbourhood
from metaniche.nn.organ_soil import OrganSoil
from metaniche.nn.pair_attention import PairAttention

TERMS = ("seed", "soil", "signals")


class Reach(NamedTuple):
    """Range of a signaling family, in contact distances: where it starts, and its bounds."""

    start: float
    low: float
    high: float


# As `signaling.DECAYS`, whose lengths they start from, at a contact distance of 20 um.
REACH = {
    "contact": Reach(0.75, 0.25, 1.5),
    "ecm": Reach(1.0, 0.4, 4.0),
    "secreted": Reach(2.0, 0.5, 7.5),
    "non_protein": Reach(3.0, 0.5, 10.0),
    "ev": Reach(3.0, 0.5, 10.0),
    "unknown": Reach(2.0, 0.5, 7.5),
    "paracrine": Reach(2.0, 0.5, 7.5),
}
SOIL_REACH = (1.0, 2.5)  # of the two ranges at which the soil is looked at
# How far a step of the optimiser moves the slope of an amount that is heard: as far as a layer of this width would.
SLOPE_STEP = 16.0


class EdgeEffects(NamedTuple):
    """Of one head of a family: its edges, each pair's columns and weight (P,), and effects (E, K) per mass action."""

    family: str
    graph: CellGraph
    ligand: Tensor
    receptor: Tensor
    weight: Tensor
    effect: Tensor


class SeedSoil(MIL):
    r"""Additive in three terms, pooled additively: of a cell, a clone or a patient it can be said what each contributes.

    .. math:: z_i = seed(x_i) + soil(\{x_j\}) + signals(\{pairs_{ij}\})

    *seed* sees the cell alone. *soil* sees kernel averages of the surroundings (cells that are not malignant, so that the
    tumour around a tumour cell is not taken for its soil) and not the cell. *signals* hears neighbours only as far as
    ligands of theirs meet receptors of the cell, and only how much (`nn.PairAttention`), family by family.
    `MILOutput.terms` holds the three; `MILOutput.penalty` keeps soil from claiming what the cell alone explains.

    Parameters
    ----------
    pairs
        Columns, scale and family of each pair, as `data.pairs.PairFeatures.columns` gives them; None, as for most panels of
        proteins: what is heard is learned attention over contact and paracrine neighbours (`nn.ContextAttention`).
    heads
        Heads of the attention in each family.
    seed, soil, signals, distance
        False leaves the term out; without `distance` every sender in the graph is as near as any other.
    contact_um, radius_um
        Distances of the graph: ranges are counted in the first, and nobody is heard from beyond the second.
    orthogonality
        Weight of the penalty on what soil and seed share.
    organs
        For tasks of organ sites, what `data.organs.organ_columns` gives: the soil of a site is then also what waits in that
        organ for the receptors of a tumour cell (`nn.OrganSoil`); part of the soil, gone with `soil=False`, and beyond the
        penalty.
    """

    reads_pairs = True
    terms = TERMS

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        n_clinical: int = 0,
        *,
        pairs: Mapping[str, Sequence] | None = None,
        width: int = 32,
        heads: int = 2,
        dropout: float = 0.2,
        seed: bool = True,
        soil: bool = True,
        signals: bool = True,
        distance: bool = True,
        contact_um: float = 20.0,
        radius_um: float = 150.0,
        orthogonality: float = 1.0,
        organs: Mapping[str, Sequence] | None = None,
    ) -> None:
        super().__init__(n_features, n_outputs, n_clinical, width=width, dropout=dropout)
        if not (seed or soil or signals):
            raise ConfigError(
                "Expected at least one of seed, soil and signals to be true, found none: nothing is left."
            )
        self.orthogonality, self.hops = orthogonality, int(soil or signals)
        self.heads, self.hears_pairs, self.families = heads, bool(pairs), nn.ModuleDict()
        for family, of_family in _families(pairs).items() if signals else ():
            reach = _range(family, contact_um, radius_um) if distance else None
            self.families[family] = (
                PairAttention(*of_family, heads, reach) if pairs else ContextAttention(width, heads, reach)
            )
        if not seed:
            self.pool.score.requires_grad_(False)
        self.seed = seed
        lengths = [Range(contact_um * start, 0.25 * contact_um, 10 * contact_um, radius_um) for start in SOIL_REACH]
        self.around = Neighbourhood(width, lengths) if soil else None
        self.of_soil = _head(width, n_outputs, dropout) if soil else None
        self.organs = OrganSoil(**organs) if soil and organs else None
        self.loudness = nn.ModuleDict({family: Loudness(heads) for family in self.families if pairs})
        heard = (heads if pairs else width) * len(self.families)
        self.of_signals = nn.Linear(heard, n_outputs, bias=False) if heard else None
        if heard and pairs:
            nn.init.normal_(self.of_signals.weight, std=0.5 / SLOPE_STEP)

    def encode(self, h: Tensor, graph: CellGraph) -> Tensor:
        return h

    def forward(
        self,
        x: Tensor,
        graph: CellGraph,
        bag_ptr: Tensor,
        candidates: Tensor,
        clinical: Tensor | None = None,
        signals: Tensor | None = None,
        surroundings: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> MILOutput:
        own = self.embed(x)
        zero = own.new_zeros(len(x), self.pool.score[-1].out_features)
        terms, h, penalty = dict.fromkeys(TERMS, zero), own, None
        if self.seed:
            terms["seed"] = self.pool.score(own)
        if self.around is not None:
            soil = self.around(own, _heard_from(graph, surroundings))
            terms["soil"], h = self.of_soil(soil), h + soil
            if self.training:  # a share of a forward pass worth saving where nothing is learned
                judged = candidates.nonzero()[:, 0]
                penalty = self.orthogonality * shared_variance(own[judged], soil[judged])
        if self.organs is not None:
            waits = self.organs(signals)
            terms["soil"] = terms["soil"] + (waits if surroundings is None else waits * ~surroundings[:, None])
        if self.families:
            terms["signals"] = self.signals_over(own, signals, graph, inside)
        stacked = torch.stack(list(terms.values()), dim=1)
        logits = stacked.sum(1)
        attention, bag_logits = self.pool.weigh(h, logits, bag_ptr, candidates)
        return MILOutput(logits, attention, self.with_clinical(bag_logits, clinical), h, stacked, penalty)

    def signals_over(self, own: Tensor, signals: Tensor, graph: CellGraph, inside: Tensor | None = None) -> Tensor:
        """(N, K) the signals term of cells embedded as `own` (N, width), when they hear along these edges only."""
        return self._hear(signals, graph, inside) if self.hears_pairs else self._look(own, graph)

    def _hear(self, signals: Tensor, graph: CellGraph, inside: Tensor | None) -> Tensor:
        """(N, K) what the amounts that each cell hears, family by family and head by head, add to its logits."""
        heard = [
            self.loudness[family](listen(signals, _edges_of(family, graph)), inside)
            for family, listen in self.families.items()
        ]
        return nn.functional.linear(torch.cat(heard, dim=1), self._slopes)

    def _look(self, own: Tensor, graph: CellGraph) -> Tensor:
        """(N, K) the same where there are no pairs: what is seen of the neighbours in each relation."""
        seen = [listen(own, _edges_of(relation, graph)) for relation, listen in self.families.items()]
        return self.of_signals(torch.cat(seen, dim=1))

    @property
    def _slopes(self) -> Tensor:
        return SLOPE_STEP * self.of_signals.weight

    def signals_along(self, own: Tensor, signals: Tensor, graph: CellGraph) -> Callable[[Tensor], Tensor]:
        """A function of a mask of edges (E,) that gives `signals_over` those edges, for many masks of one graph."""
        if not self.hears_pairs:
            return lambda edges: self._look(own, graph.keep(edges))
        families = []
        for family, listen in self.families.items():
            of, place = _own_edges(family, graph)
            families.append((listen, self.loudness[family], of, place, listen.amounts(signals, of)))

        def heard(edges: Tensor) -> Tensor:
            parts = [
                loudness(listen.of_amounts(amounts * edges[place][:, None], of))
                for listen, loudness, of, place, amounts in families
            ]
            return nn.functional.linear(torch.cat(parts, dim=1), self._slopes)

        return heard

    def signals_under(self, weigh: Tensor, signals: Tensor, graph: CellGraph, kept: Tensor) -> Tensor:
        """(S, K) the signals term of one bag under each row of `kept` (S, P), bool, when it hears only the pairs of that row.

        `weigh` (N,) is the attention of its cells, `P` counts the pairs of all families, one family after another. What reaches
        a cell by each pair is summed up once, however many rows there are; nothing is E x P or N x P.
        """
        parts = kept.to(signals.dtype).split([listen.ligand.numel() for listen in self.families.values()], dim=1)
        heard = [
            self.loudness[family].factor * listen.bag_under(weigh, signals, _edges_of(family, graph), part)
            for (family, listen), part in zip(self.families.items(), parts)
        ]
        return nn.functional.linear(torch.cat(heard, dim=1), self._slopes)

    def edge_effects(self, signals: Tensor, graph: CellGraph) -> Iterator[EdgeEffects]:
        """What a unit of mass action on each edge adds to its receiver's logits, family by family and head by head.

        Times :math:`w_p L R` it is what pair p adds there; over all pairs and edges these sum to the signals term. Nothing
        for a network that hears no pairs.
        """
        if not self.hears_pairs:
            return
        slopes = self._slopes.view(-1, len(self.families), self.heads)
        for number, (family, listen) in enumerate(self.families.items()):
            edges = _edges_of(family, graph)
            per_mass = listen.per_mass(signals, edges) * self.loudness[family].factor
            for head in range(self.heads):
                yield EdgeEffects(
                    family, edges, listen.ligand, listen.receptor, listen.weight[head],
                    per_mass[:, head, None] * slopes[:, number, head],
                )  # fmt: skip

    def edge_contributions(self, own: Tensor, signals: Tensor, graph: CellGraph) -> Tensor:
        """(E, K) what each edge adds to its receiver's logits; after training it sums to `signals_over` over its edges."""
        added = own.new_zeros(graph.n_edges, self.of_signals.out_features)
        weights = (self._slopes if self.hears_pairs else self.of_signals.weight).chunk(len(self.families), dim=1)
        for (family, listen), weight in zip(self.families.items(), weights):
            edges, place = _own_edges(family, graph)
            if self.hears_pairs:
                part = listen.along(signals, edges) * self.loudness[family].factor @ weight.T
            else:
                part = listen.along(own, edges, weight)
            added[place] += part
        return added


def shared_variance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared correlation over cells between every column of a (n, A) and every column of b (n, B); 0 below 3 cells."""
    if len(a) < 3:
        return (a.sum() + b.sum()) * 0.0
    a, b = ((x - x.mean(0)) / (x.std(0) + 1e-4) for x in (a, b))
    return (a.T @ b / len(a)).square().mean()


def _families(pairs: Mapping[str, Sequence] | None) -> dict[str, tuple[Sequence, ...]]:
    """Family -> ligand, receptor and scale of its pairs; without pairs the relations of the graph, and nothing of them."""
    if not pairs:
        return dict.fromkeys(RELATIONS, ())
    of_family: dict[str, list[tuple]] = {family: [] for family in sorted(set(pairs["family"]))}
    for family, *pair in zip(*(pairs[key] for key in ("family", "ligand", "receptor", "scale"))):
        of_family[family].append(pair)
    return {family: tuple(zip(*mine)) for family, mine in of_family.items()}


def _range(family: str, contact_um: float, radius_um: float) -> Range:
    beyond = contact_um if family == "contact" else radius_um
    return Range(*(contact_um * bound for bound in REACH[family]), beyond)


def _edges_of(family: str, graph: CellGraph) -> CellGraph:
    return _own_edges(family, graph)[0]


def _own_edges(family: str, graph: CellGraph) -> tuple[CellGraph, Tensor | slice]:
    """Contact and paracrine signals take the edges of that name, all others every edge; and where these are in the graph."""
    if family not in graph.relation_names:
        return graph, slice(None)
    mine = graph.is_of(family)
    return graph.keep(mine), mine


def _heard_from(graph: CellGraph, senders: Tensor | None) -> CellGraph:
    """The edges from these cells only."""
    return graph if senders is None else graph.keep(senders[graph.indices.long()])


def _head(width: int, n_outputs: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, n_outputs))
