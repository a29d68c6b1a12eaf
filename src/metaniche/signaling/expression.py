"""The pairs that a panel measures, with the expression of their ligands and receptors, complexes included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from metaniche.errors import InputError
from metaniche.io.matrices import all_finite, has_negative
from metaniche.io.wording import listed, nearest
from metaniche.ops import complex_expression
from metaniche.signaling.csr import to_torch
from metaniche.signaling.resources import Resource, subunits


@dataclass(frozen=True)
class PairExpression:
    """Ligands and receptors of P pairs in N cells.

    Attributes
    ----------
    pairs
        The measured pairs: rows of `Resource.pairs` under their numbers there.
    ligand_NL, receptor_NR
        float32, torch.sparse_csr; a column per ligand or receptor, complexes included.
    lig_P, rec_P
        (P,) int32 columns of each pair.
    genes
        Of each ligand and receptor, the genes it is made of in this panel.
    """

    pairs: pd.DataFrame
    ligand_NL: Tensor
    receptor_NR: Tensor
    lig_P: Tensor
    rec_P: Tensor
    genes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def n_pairs(self) -> int:
        return len(self.pairs)

    @property
    def names(self) -> list[str]:
        """ligand - receptor of each pair."""
        return list(self.pairs["ligand"] + " - " + self.pairs["receptor"])

    def by_signaling_type(self) -> Iterator[tuple[str, np.ndarray]]:
        """(signaling type, positions of its pairs) in the order of their names; "unknown" where the resource names none."""
        kinds = self.pairs["signaling_type"].fillna("unknown").to_numpy(str)
        for kind in np.unique(kinds):
            yield str(kind), np.flatnonzero(kinds == kind)

    def position(self, ligand: str, receptor: str) -> int:
        """Of a pair among those measured. Raises InputError, with the nearest, for one that is not."""
        found = np.flatnonzero((self.pairs["ligand"] == ligand) & (self.pairs["receptor"] == receptor))
        if not len(found):
            raise InputError(
                f"Expected a measured pair, found {ligand} - {receptor}. {nearest(f'{ligand} - {receptor}', self.names)}"
                f"{self.n_pairs} pairs are measured: {listed(self.names)}."
            )
        return int(found[0])

    def select(self, keep: np.ndarray | Sequence[int]) -> PairExpression:
        """The pairs at these positions or under this mask; ligands and receptors stay."""
        rows = torch.from_numpy(np.arange(self.n_pairs)[keep])
        return replace(self, pairs=self.pairs.iloc[rows.numpy()], lig_P=self.lig_P[rows], rec_P=self.rec_P[rows])


def pair_expression(
    x: np.ndarray | sparse.csr_array,
    features: Sequence[str],
    resource: Resource,
    complexes: str = "minimum",
    device: torch.device | str = "cpu",
) -> PairExpression:
    """Expression of the pairs of `resource` that `features` measure, on `device`.

    Parameters
    ----------
    x
        (N, G) expression, finite and 0 or above: log-normalised counts, or intensities.
    features
        Names of the G columns.
    complexes
        minimum or geometric_mean over the subunits; a complex with a silent subunit is silent.

    Raises
    ------
    InputError
        When no pair is measured, the names are not one per column or not unique, or a value is negative or
        not finite.
    """
    if len(features) != x.shape[1]:
        raise InputError(f"Expected a name for each of {x.shape[1]} columns, found {len(features)} names.")
    if len(set(features)) != len(features):
        raise InputError(f"Expected unique feature names, found {len(features) - len(set(features))} repeated.")
    if not all_finite(x):
        raise InputError(
            "Expected finite expression, found NaN or infinite values. Not measured is not zero: drop those cells or genes."
        )
    if has_negative(x):
        raise InputError(
            "Expected expression of 0 or above, found negative values. Scores of scaled expression mean nothing: give "
            "raw counts or log-normalised ones, not z-scores."
        )
    pairs = resource.overlap(features).measured
    column = {name: i for i, name in enumerate(features)}
    values = to_torch(x, device)
    sides, made_of = [], {}
    for side in ("ligand", "receptor"):
        codes, names = pd.factorize(pairs[side])
        made_of |= {name: subunits(name, column) for name in names}
        genes = [[column[gene] for gene in made_of[name]] for name in names]
        pointer = torch.tensor(np.cumsum([0, *map(len, genes)]), dtype=torch.int64)
        flat = torch.tensor([g for of_one in genes for g in of_one], dtype=torch.int32)
        whole = complex_expression(values, pointer.to(device), flat.to(device), complexes)
        sides.append((whole, torch.from_numpy(codes).to(device, torch.int32)))
    (ligand, lig), (receptor, rec) = sides
    return PairExpression(pairs, ligand, receptor, lig, rec, made_of)
