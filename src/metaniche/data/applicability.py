"""May a model speak of this sample? Coverage counts names; here are the values, the cells and the graph behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from metaniche.data.cohort import CohortConfig
from metaniche.data.features import CLIP, Features
from metaniche.data.pairs import PairFeatures
from metaniche.data.sample import PreparedSample
from metaniche.errors import ConfigError, InputError
from metaniche.io import keys
from metaniche.io.wording import listed, nearest, refusal

MIN_CELLS = 100  # fewer say little of a tumour
PROBE = 2000  # cells of a sample whose values are looked at
# Of the real cohorts' own samples up to 3 % of markers lie beyond 2 sd and 0.6 % of values at the clip; in other units or
# after z-scoring it is 14 % and more.
SHIFT_SD, SHIFTED_SHARE = 2.0, 0.1
CLIPPED_SHARE = 0.05
LIBRARY_SHARE = 0.2  # of a library: from fewer counts its size is a guess


def check_floor(floor: float) -> float:
    """A coverage floor in [0, 1]. Raises ConfigError for anything else."""
    number = isinstance(floor, int | float | np.number) and not isinstance(floor, bool)
    if not number or not 0 <= floor <= 1:
        raise ConfigError(f"Expected coverage_floor to be a number from 0 to 1, found {floor!r}. The default is 0.5.")
    return float(floor)


def check_coverage(
    samples: Sequence[PreparedSample], features: Features, floor: float, pairs: PairFeatures | None = None
) -> pd.DataFrame:
    """`coverage` by sample id and, where the network hears pairs, their `pair_coverage`. Raises InputError for a sample that
    measures less than `floor` of the features, or of the pairs.
    """
    rows = {}
    for sample in samples:
        rows[sample.sample_id] = row = {"coverage": features.coverage(sample)}
        if row["coverage"] < floor:
            raise _refused(sample, row["coverage"], floor, *_not_covered(sample, features))
        if pairs is not None:
            row["pair_coverage"] = pairs.coverage(sample)
            if row["pair_coverage"] < floor:
                raise _refused(sample, row["pair_coverage"], floor, *_not_heard(sample, pairs))
    return pd.DataFrame.from_dict(rows, orient="index")


def _refused(sample: PreparedSample, share: float, floor: float, missing: str, remedy: str) -> InputError:
    return InputError(
        f"Sample {sample.sample_id!r}: expected coverage of at least {100 * floor:.0f} %, found {100 * share:.0f} % "
        f"{missing}. {remedy}; a lower coverage_floor accepts it at your own risk."
    )


def check_aliases(aliases: dict[str, str], features: Features, config: CohortConfig) -> None:
    """Raise InputError for an alias of a type that means nothing to the bundle: its cells would be unknown, without a word."""
    known = sorted({*features.types, *config.malignant_types, *config.drop_types, *config.type_aliases.values()})
    unknown = [name for name in aliases.values() if name not in known]
    if known and unknown:
        fix = f"{nearest(unknown[0], known)}An alias leads from a type of this data to one of the bundle."
        found = f"{listed(unknown)}; it knows {listed(known, 40)}"
        raise refusal("type_aliases", expected="types of the bundle", found=found, fix=fix)


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


def check_tumour(samples: Sequence[PreparedSample]) -> None:
    """Raise InputError for samples of which nobody says which cells are malignant: profiles of organs speak to those alone."""
    unknown = [s.sample_id for s in samples if not s.knows_malignant]
    if unknown:
        raise InputError(
            f"Expected malignant cells, whose receptors the reference profiles of organs meet, found that nobody says which "
            f"they are in {len(unknown)} of {len(samples)} samples ({listed(unknown, 3)}). Set data.malignant_types or fill "
            f"obs[{keys.MALIGNANT!r}]; or train without organs."
        )


def doubts(
    samples: Sequence[PreparedSample], features: Features, pool: str, pairs: PairFeatures | None = None
) -> list[str]:
    """What makes the risk of one unit, made of these samples, doubtful; a phrase each, none where nothing does."""
    found = []
    n_cells = sum(s.n_cells for s in samples)
    if n_cells < MIN_CELLS:
        found.append(f"only {n_cells} cells, fewer than {MIN_CELLS}")
    if not any(s.is_malignant.any() for s in samples):
        instead = "all cells were pooled instead" if pool == "malignant" else "the risk is of the other cells"
        found.append(f"no malignant cell: {instead}")
    elif all(s.knows_malignant and s.is_malignant.all() for s in samples):
        found.append("every cell is malignant: there is no soil around them")
    for sample in samples:
        alone = float((sample.graph.indptr.diff() == 0).float().mean())
        if alone > 0.5:
            found.append(f"sample {sample.sample_id}: {100 * alone:.0f} % of cells have no neighbour")
        found += [f"sample {sample.sample_id}: {text}" for text in _of_values(sample, features)]
        found += [f"sample {sample.sample_id}: {text}" for text in _of_pairs(sample, pairs)]
        share = 1.0 if features.library is None else features.library.share_of(sample.features)
        if share < LIBRARY_SHARE:
            found.append(
                f"sample {sample.sample_id}: its genes make {100 * share:.2g} % of a library of the training's panel"
            )
    return found


def _not_covered(sample: PreparedSample, features: Features) -> tuple[str, str]:
    """What the sample lacks most, and what to do."""
    shares = features.coverages(sample)
    wanted = {"genes": features.genes, "states": features.state_genes}.get(min(shares, key=shares.get))
    if wanted:
        missing = [g for g in wanted if g not in sample.features]
        what = f"of its {len(wanted)} features; missing: {', '.join(missing[:8])}"
        return what, "Check gene ids and species, or use a bundle trained on this panel"
    found = [] if sample.cell_types is None else sorted(map(str, sample.cell_types.categories))
    what = f"of cells with a known type; known: {list(features.types)}, found: {found}"
    return what, "Rename the types in obs['cell_type'] or give type_aliases (found, trained)"


def _not_heard(sample: PreparedSample, pairs: PairFeatures) -> tuple[str, str]:
    """Which pairs the sample lacks, and what to do."""
    what = f"of the {pairs.n_pairs} ligand-receptor pairs that it hears; not measured: {_named(pairs, ~pairs.measured(sample))}"
    return what, "Check gene ids and species, or use a bundle trained on this panel"


def _named(pairs: PairFeatures, which: np.ndarray) -> str:
    return listed([f"{row.ligand}-{row.receptor}" for row in pairs.pairs[which].itertuples()], 5)


def _of_pairs(sample: PreparedSample, pairs: PairFeatures | None) -> list[str]:
    """A pair that is not measured is heard as silence, which a feature at its training mean is not: each is worth a word."""
    missing = np.zeros(0, bool) if pairs is None else ~pairs.measured(sample)
    if not missing.any():
        return []
    return [
        f"{missing.sum()} of {pairs.n_pairs} ligand-receptor pairs are not measured and count as silent "
        f"({_named(pairs, missing)})"
    ]


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
