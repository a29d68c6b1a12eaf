"""SignalConfig: how signals are scored and tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from metaniche.errors import ConfigError
from metaniche.graph import CellGraph, GraphConfig
from metaniche.signaling.decay import DECAYS, Decay
from metaniche.signaling.nulls import NULLS

NULL_MODELS = (*NULLS, "shifts", "matched_pairs", "none")
COMPLEXES = ("minimum", "geometric_mean")
SCORES = ("product", "geometric_mean", "hill", "mass_action")
# All neighbours within reach of the longest default decay: a draw of some would make signals noisy.
GRAPH = GraphConfig(contact_um=20.0, radius_um=100.0, max_paracrine=None)


def graph_within(reach_um: float) -> GraphConfig:
    """All neighbours up to there; in touch up to GRAPH's distance, or half the reach where that is less."""
    return replace(GRAPH, radius_um=reach_um, contact_um=min(GRAPH.contact_um, reach_um / 2))


@dataclass(frozen=True)
class SignalConfig:
    """How signals are scored and tested.

    Parameters
    ----------
    score
        product of ligand and receptor; geometric_mean of the two; hill: both saturated, `x / (K + x)`; mass_action: their
        product saturated on every edge (CellChat's form), whose null needs permutations.
    complexes
        minimum or geometric_mean over subunits.
    half_saturation
        K, in units of the expression (of the product for mass_action).
    null_model
        positions, labels, shifts, matched_pairs or none; see the modules nulls, shifts and matched_pairs of
        `metaniche.signaling` for the question that each asks.
    n_permutations
        0: exact moments with a gamma tail; else at most as many permutations, shifts or random pairs, fewer where all tests
        are decided. No p is below 1 / (n_permutations + 1), so q of thousands of tests needs thousands.
    stop_after
        Times that a permuted signal must reach a test to decide it.
    min_share
        A pair is tested between two types when at least this share of each expresses its side. Not for labels and
        matched_pairs, which would not be valid after such a choice: there any cell of the sample is enough.
    decays
        Changes to `DECAYS`: signaling type -> {kind, length_um}.
    seed
        Of the permutations.
    """

    score: str = "product"
    complexes: str = "minimum"
    half_saturation: float = 0.5
    null_model: str = "positions"
    n_permutations: int = 0
    stop_after: int = 20
    min_share: float = 0.05
    decays: Mapping[str, Mapping] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ConfigError(f"Expected signaling.score in {SCORES}, found {self.score!r}.")
        if self.complexes not in COMPLEXES:
            raise ConfigError(f"Expected signaling.complexes in {COMPLEXES}, found {self.complexes!r}.")
        for name in ("n_permutations", "stop_after", "seed"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 0:
                raise ConfigError(
                    f"Expected signaling.{name} to be a whole number of 0 or above, found {getattr(self, name)!r}."
                )
        if self.null_model not in NULL_MODELS:
            raise ConfigError(f"Expected signaling.null_model in {NULL_MODELS}, found {self.null_model!r}.")
        if self.null_model in ("shifts", "matched_pairs") and not self.n_permutations:
            raise ConfigError(f"null_model={self.null_model} has no closed form: give n_permutations, such as 999.")
        if self.null_model == "matched_pairs" and self.score != "product":
            raise ConfigError(
                f"null_model=matched_pairs compares products, found score={self.score}: take score=product."
            )
        if self.score == "mass_action" and self.null_model != "none" and not self.n_permutations:
            raise ConfigError("score=mass_action has no closed-form null: give n_permutations, or take score=hill.")
        if not 0 <= self.min_share < 1 or self.stop_after < 1 or self.half_saturation <= 0:
            raise ConfigError(
                f"Expected 0 <= min_share < 1, stop_after >= 1 and half_saturation > 0, found {self.min_share}, "
                f"{self.stop_after}, {self.half_saturation}."
            )
        unknown = set(self.decays) - set(DECAYS)
        if unknown:
            raise ConfigError(f"Expected signaling.decays of {tuple(DECAYS)}, found {sorted(unknown)}.")
        self.decay("unknown")

    def edge_weights(self, signaling_type: str, graph: CellGraph) -> Tensor:
        """(E,) float32 weight of each edge: the decay over its length, times the neighbours it stands for."""
        return graph.times_weight(self.decay(signaling_type).weights(graph.distance_um))

    def decay(self, signaling_type: str) -> Decay:
        """The rule for a signaling type, with the changes of `decays`. Raises ConfigError for a type that there is not."""
        if signaling_type not in self._rules:
            raise ConfigError(f"Expected a signaling type in {tuple(self._rules)}, found {signaling_type!r}.")
        return self._rules[signaling_type]

    @property
    def tests_all_types(self) -> bool:
        """Whether a choice of types that express the pair would spoil the null."""
        return self.null_model in ("labels", "matched_pairs")

    @cached_property
    def _rules(self) -> dict[str, Decay]:
        try:
            return {name: replace(rule, **dict(self.decays.get(name, {}))) for name, rule in DECAYS.items()}
        except TypeError as error:
            raise ConfigError(f"Expected kind and length_um in signaling.decays: {error}.") from error
