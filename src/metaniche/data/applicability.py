"""May a model speak of this sample? Coverage counts names; here are the values, the cells and the graph behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metaniche.data.features import CLIP, Features
from metaniche.data.sample import PreparedSample
from metaniche.errors import ConfigError
from metaniche.io import keys
from metaniche.io.wording import listed, refusal

MIN_CELLS = 100  # fewer say little of a tumour
PROBE = 2000  # cells of a sample whose values are looked at
# Of the real cohorts' own samples up to 3 % of markers lie beyond 2 sd and 0.6 % of values at the clip; in other units or
# after z-scoring it is 14 % and more.
SHIFT_SD, SHIFTED_SHARE = 2.0, 0.1
CLIPPED_SHARE = 0.05


def check_floor(floor: float) -> float:
    """A coverage floor in [0, 1]. Raises ConfigError for anything else."""
    number = isinstance(floor, int | float | np.number) and not isinstance(floor, bool)
    if not number or not 0 <= floor <= 1:
        raise ConfigError(f"Expected coverage_floor to be a number from 0 to 1, found {floor!r}. The default is 0.5.")
    return float(floor)


def check_kind(stated: str | None, features: Features, *, where: object) -> None:
    """Raise InputError where a sample states another feature kind than the measured features were fitted on."""
    if features.genes and stated not in (None, features.kind):
        raise refusal(
            where,
            expected=f"features of kind {features.kind!r}, on which this bundle was trained",
            found=f"{stated!r} in uns[{keys.UNS!r}][{keys.FEATURE_KIND!r}]",
            fix=f"Use a bundle trained on {stated}, or correct the entry if the values are {features.kind} after all.",
        )


def check_edges(sample: PreparedSample, radius_um: float, *, where: object) -> None:
    """Raise InputError for a sample without any edge: its network would be blind and still give a risk."""
    if sample.graph.n_edges == 0:
        raise refusal(
            f"{where}, sample {sample.sample_id}",
            expected=f"cells with neighbours within {radius_um:g} um, as this bundle's graph has them",
            found=f"none among {sample.n_cells} cells",
            fix="Check um_per_unit; tissue of another resolution (spots) needs a bundle trained on it.",
        )


def doubts(samples: Sequence[PreparedSample], features: Features, pool: str) -> list[str]:
    """What makes the risk of one unit, made of these samples, doubtful; a phrase each, none where nothing does."""
    found = []
    n_cells = sum(s.n_cells for s in samples)
    if n_cells < MIN_CELLS:
        found.append(f"only {n_cells} cells, fewer than {MIN_CELLS}")
    if not any(s.is_malignant.any() for s in samples):
        instead = "all cells were pooled instead" if pool == "malignant" else "the risk is of the other cells"
        found.append(f"no malignant cell: {instead}")
    for sample in samples:
        alone = float((sample.graph.indptr.diff() == 0).float().mean())
        if alone > 0.5:
            found.append(f"sample {sample.sample_id}: {100 * alone:.0f} % of cells have no neighbour")
        found += [f"sample {sample.sample_id}: {text}" for text in _of_values(sample, features)]
    return found


def _of_values(sample: PreparedSample, features: Features) -> list[str]:
    measured = np.asarray(features.genes, dtype=object)[np.isin(features.genes, sample.features)]
    if not measured.size:
        return []
    values = features.standardised(sample, slice(None, None, max(1, sample.n_cells // PROBE)))
    shifted = np.abs(values.mean(0)) > SHIFT_SD
    clipped = float((np.abs(values) >= CLIP).mean())
    if shifted.mean() < SHIFTED_SHARE and clipped < CLIPPED_SHARE:
        return []
    names = listed([g for g, far in zip(measured, shifted) if far], 3)
    return [
        f"{100 * shifted.mean():.0f} % of features lie more than {SHIFT_SD:g} sd from the training mean ({names}) and "
        f"{100 * clipped:.0f} % of values at the clip; other units, another platform or a transformed matrix"
    ]
