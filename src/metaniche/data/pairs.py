"""PairFeatures: ligands and receptors of a cell as saturated expression, and the pairs they form; fitted as Features are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from metaniche.data.sample import PreparedSample
from metaniche.errors import ConfigError, InputError
from metaniche.io.matrices import library_normalised
from metaniche.signaling import Resource, subunits

UNKNOWN = "unknown"
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
    half_saturation
        (S,) float32, of the ligands and receptors in the order of `names`.
    provenance
        What the resource says of itself.
    """

    pairs: pd.DataFrame
    half_saturation: np.ndarray
    provenance: dict = field(default_factory=dict)

    @classmethod
    def fit(cls, samples: Sequence[PreparedSample], resource: Resource) -> PairFeatures:
        """The pairs that all samples measure and whose two sides are expressed in some of their cells.

        Raises InputError where no pair is left, as `Resource.overlap` does where none is measured.
        """
        panel = set(samples[0].features).intersection(*(s.features for s in samples[1:]))
        table = resource.overlap(panel).measured[NAMES].astype(object).reset_index(drop=True)
        table["signaling_type"] = table["signaling_type"].fillna(UNKNOWN)
        table = table.where(table.notna(), None)
        made = cls(table, np.ones(0, np.float32), resource.provenance())
        expressed = pd.DataFrame([_mean_above_zero(made.expression(s)) for s in samples], columns=list(made.names))
        half = expressed.groupby([s.patient_id for s in samples]).mean().mean()
        silent = {name for _, name in half.index[half.isna()]}
        kept = ~(table["ligand"].isin(silent) | table["receptor"].isin(silent))
        if not kept.any():
            raise InputError(
                f"{resource.where}: expected a pair whose two sides are expressed in the training samples, found none among "
                f"the {len(table)} measured ones. Check that X holds expression."
            )
        left = replace(made, pairs=table[kept].reset_index(drop=True))
        return replace(left, half_saturation=np.array([half[name] for name in left.names], np.float32))

    @cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """The S columns: ("ligand" or "receptor", name)."""
        sides = ("ligand", "receptor")
        return tuple((side, name) for side in sides for name in sorted(self.pairs[side].unique()))

    @property
    def n_pairs(self) -> int:
        return len(self.pairs)

    def columns(self) -> dict[str, list]:
        """Of each pair its two columns and its signaling type: what a network is built with, as plain lists."""
        place = {name: i for i, name in enumerate(self.names)}
        return {
            "ligand": [place["ligand", name] for name in self.pairs["ligand"]],
            "receptor": [place["receptor", name] for name in self.pairs["receptor"]],
            "family": self.pairs["signaling_type"].tolist(),
        }

    def transform(self, sample: PreparedSample) -> np.ndarray:
        """(N, S) float32 for one sample, whatever the order of its features."""
        x = self.expression(sample)
        return x / (x + self.half_saturation)

    def expression(self, sample: PreparedSample) -> np.ndarray:
        """(N, S) float32 expression before saturation; a complex is at its weakest subunit, what is not measured at 0."""
        x = library_normalised(sample.x) if sample.feature_kind == "counts" else sample.x
        column = {name: i for i, name in enumerate(sample.features)}
        x = sparse.csc_array(x) if sparse.issparse(x) else x
        out = np.zeros((sample.n_cells, len(self.names)), np.float32)
        for place, (_, name) in enumerate(self.names):
            genes = subunits(name)
            if all(gene in column for gene in genes):
                values = x[:, [column[gene] for gene in genes]]
                out[:, place] = (values.toarray() if sparse.issparse(values) else values).min(axis=1)
        return out.clip(min=0)

    def coverage(self, sample: PreparedSample) -> float:
        """Share of the pairs whose two sides the sample measures."""
        there = set(sample.features)
        measured = {name: set(subunits(name)) <= there for _, name in self.names}
        return float((self.pairs["ligand"].map(measured) & self.pairs["receptor"].map(measured)).mean())

    def state(self) -> dict:
        """Everything as plain JSON types."""
        return {
            "pairs": self.pairs.to_dict("list"),
            "half_saturation": [float(k) for k in self.half_saturation],
            "provenance": json.loads(json.dumps(self.provenance, default=str)),
        }

    @classmethod
    def from_state(cls, state: dict) -> PairFeatures:
        """The inverse of `state`."""
        try:
            pairs = pd.DataFrame(state["pairs"], dtype=object)[NAMES]
            return cls(pairs, np.array(state["half_saturation"], np.float32), dict(state["provenance"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"Expected the state of PairFeatures, found keys {sorted(state)}: {error}.") from error


def _mean_above_zero(x: np.ndarray) -> np.ndarray:
    """(S,) NaN where nothing is above 0."""
    count = (x > 0).sum(axis=0)
    return np.where(count > 0, x.sum(axis=0) / np.maximum(count, 1), np.nan)
