"""PairFeatures: ligands and receptors of a cell as saturated expression, and the pairs they form; fitted as Features are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from metaniche.data.library import Library
from metaniche.data.sample import PreparedSample, shared_features
from metaniche.errors import ConfigError, InputError
from metaniche.graph import CellGraph
from metaniche.io.matrices import library_normalised
from metaniche.signaling import Resource, subunits

UNKNOWN = "unknown"
CELLS_AT_ONCE = 65_536  # whose genes stand side by side
RAREST = 0.02  # of a mean: what is rarer is not made louder
NAMES = ["ligand", "receptor", "signaling_type", "pathway"]


@dataclass(frozen=True)
class PairFeatures:
    """A fitted map from a PreparedSample to (N, S) float32 in [0, 1): ligands, then receptors, saturated.

    .. math:: s = x / (x + K)

    of counts per library or of intensities, with K the mean of the values above 0, every training patient alike. No
    logarithm comes first: after one, a stray count is nearly as much as a dozen. A complex is at its weakest subunit. What
    a new sample does not measure is 0, so that its pairs say nothing; `coverage` says how many can speak.

    Attributes
    ----------
    pairs
        (P rows) ligand, receptor, signaling_type ("unknown" where the resource does not say) and pathway.
    half_saturation, mean
        (S,) float32, of the ligands and receptors in the order of `names`: K, and the mean of s over all training cells.
    degree
        Neighbours of a cell on average over training samples: contact ones, and all, with those that a draw stands for.
    provenance
        What the resource says of itself.
    library
        Of counts: over which genes a library is taken; None of intensities.
    """

    pairs: pd.DataFrame
    half_saturation: np.ndarray
    mean: np.ndarray
    degree: tuple[float, float] = (1.0, 1.0)
    provenance: dict = field(default_factory=dict)
    library: Library | None = None

    @classmethod
    def fit(cls, samples: Sequence[PreparedSample], resource: Resource, library: Library | None = None) -> PairFeatures:
        """The pairs that all samples measure and whose two sides are expressed in some of their cells.

        `library` of these samples of counts, where their Features have fitted it already; None: it is fitted here.
        Raises InputError where no pair is left, as `Resource.overlap` does where none is measured.
        """
        table = resource.overlap(shared_features(samples)).measured[NAMES].astype(object).reset_index(drop=True)
        table["signaling_type"] = table["signaling_type"].fillna(UNKNOWN)
        table = table.where(table.notna(), None)
        near = np.sum([[_neighbours(s.graph.select("contact")), _neighbours(s.graph)] for s in samples], axis=0)
        degree = tuple((near / sum(s.n_cells for s in samples)).tolist())
        if library is None and samples[0].feature_kind == "counts":
            library = Library.fit(samples)
        made = cls(table, *np.ones((2, 0), np.float32), degree, resource.provenance(), library)
        half = made._over_patients(samples, _mean_above_zero)
        silent = {name for _, name in half.index[half.isna()]}
        kept = ~(table["ligand"].isin(silent) | table["receptor"].isin(silent))
        if not kept.any():
            raise InputError(
                f"{resource.where}: expected a pair whose two sides are expressed in the training samples, found none among "
                f"the {len(table)} measured ones. Check that X holds expression."
            )
        left = replace(made, pairs=table[kept].reset_index(drop=True))
        left = replace(left, half_saturation=np.array([half[name] for name in left.names], np.float32))
        mean = left._over_patients(samples, lambda x: (x / (x + left.half_saturation)).mean(axis=0))
        return replace(left, mean=mean.to_numpy(np.float32))

    def _over_patients(self, samples: Sequence[PreparedSample], of: Callable[[np.ndarray], np.ndarray]) -> pd.Series:
        """A mean of every column of the expression, by name: over a patient's samples, then over patients."""
        table = pd.DataFrame(
            [of(self.expression(s)) for s in samples], columns=pd.Index(self.names, tupleize_cols=False)
        )
        return table.groupby([s.patient_id for s in samples]).mean().mean()

    @cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """The S columns: ("ligand" or "receptor", name)."""
        sides = ("ligand", "receptor")
        return tuple((side, name) for side in sides for name in sorted(self.pairs[side].unique()))

    @property
    def n_pairs(self) -> int:
        return len(self.pairs)

    def columns(self) -> dict[str, list]:
        """Of each pair its two columns, its scale (see `nn.PairAttention`) and its signaling type, as plain lists: what a
        network is built with.
        """
        place = {name: i for i, name in enumerate(self.names)}
        ligand, receptor = ([place[side, name] for name in self.pairs[side]] for side in ("ligand", "receptor"))
        common = np.maximum(self.mean, RAREST).astype(float)
        return {
            "ligand": ligand,
            "receptor": receptor,
            "scale": (1 / (common[ligand] * common[receptor] * self._senders())).tolist(),
            "family": self.pairs["signaling_type"].tolist(),
        }

    def _senders(self) -> np.ndarray:
        """(P,) neighbours that a cell has on average along the edges of each pair's signaling type."""
        return np.where(self.pairs["signaling_type"] == "contact", *self.degree).clip(min=1.0)

    def transform(self, sample: PreparedSample) -> np.ndarray:
        """(N, S) float32 for one sample, whatever the order of its features."""
        x = self.expression(sample)
        return x / (x + self.half_saturation)

    def expression(self, sample: PreparedSample) -> np.ndarray:
        """(N, S) float32 expression before saturation; a complex is at its weakest subunit, what is not measured at 0."""
        x = sample.x
        if sample.feature_kind == "counts":
            x = library_normalised(x, self.library and self.library.sizes(x, sample.features))
        column = {name: i for i, name in enumerate(sample.features)}
        genes = [subunits(name, column) for _, name in self.names]
        there = [place for place, of_one in enumerate(genes) if all(gene in column for gene in of_one)]
        out = np.zeros((sample.n_cells, len(genes)), np.float32)
        if there:
            flat = [column[gene] for place in there for gene in genes[place]]
            starts = np.cumsum([0, *(len(genes[place]) for place in there[:-1])])
            for first in range(0, len(out), CELLS_AT_ONCE):
                values = x[first : first + CELLS_AT_ONCE][:, flat]
                values = values.toarray() if sparse.issparse(values) else values
                out[first : first + CELLS_AT_ONCE, there] = np.minimum.reduceat(values, starts, axis=1)
        return out.clip(min=0)

    def measured(self, sample: PreparedSample) -> np.ndarray:
        """(P,) bool: the pairs whose two sides the sample measures. Of the others nothing is heard."""
        there = set(sample.features)
        measured = {name: set(subunits(name, there)) <= there for _, name in self.names}
        return np.array([measured[a] and measured[b] for a, b in zip(self.pairs["ligand"], self.pairs["receptor"])])

    def coverage(self, sample: PreparedSample) -> float:
        """Share of the pairs whose two sides the sample measures."""
        return float(self.measured(sample).mean())

    def shuffled(self, seed: int = 0) -> PairFeatures:
        """As many pairs, in which every ligand and receptor occurs as often as before, but with others: a null resource.

        Of 200 draws the one with the fewest true pairs, and then the fewest repeated ones.
        """
        rng = np.random.default_rng(seed)
        ligand, true = self.pairs["ligand"], set(zip(self.pairs["ligand"], self.pairs["receptor"]))
        draws = [rng.permutation(self.pairs["receptor"]) for _ in range(200)]
        found = [list(zip(ligand, draw)) for draw in draws]
        best = min(range(200), key=lambda i: (sum(p in true for p in found[i]), len(found[i]) - len(set(found[i]))))
        return replace(self, pairs=self.pairs.assign(receptor=draws[best]))

    def state(self) -> dict:
        """Everything but the library, which Features have too, as plain JSON types."""
        return {
            "pairs": self.pairs.to_dict("list"),
            "half_saturation": self.half_saturation.astype(float).tolist(),
            "mean": self.mean.astype(float).tolist(),
            "degree": list(self.degree),
            "provenance": json.loads(json.dumps(self.provenance, default=str)),
        }

    @classmethod
    def from_state(cls, state: dict, library: Library | None = None) -> PairFeatures:
        """The inverse of `state`, with the library of the Features that were fitted on the same samples."""
        try:
            pairs = pd.DataFrame(state["pairs"], dtype=object)[NAMES]
            arrays = (np.array(state[key], np.float32) for key in ("half_saturation", "mean"))
            return cls(pairs, *arrays, tuple(state["degree"]), dict(state["provenance"]), library)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"Expected the state of PairFeatures, found keys {sorted(state)}: {error}.") from error


def _neighbours(graph: CellGraph) -> float:
    """How many the edges of a graph stand for."""
    return float(graph.weights().sum(dtype=torch.float64))


def _mean_above_zero(x: np.ndarray) -> np.ndarray:
    """(S,) NaN where nothing is above 0."""
    count = (x > 0).sum(axis=0)
    return np.where(count > 0, x.sum(axis=0) / np.maximum(count, 1), np.nan)
