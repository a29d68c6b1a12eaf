"""What a network says of some units, tried: terms, pairs, and whether its rankings of pairs and edges mean anything."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from metaniche.data.sample import PreparedSample
from metaniche.errors import InputError
from metaniche.explain.deletion import deletion_curves, hears_neighbours
from metaniche.explain.edges import edge_deletion_curves
from metaniche.explain.pairs import pair_contributions
from metaniche.explain.states import state_associations
from metaniche.io import run_files
from metaniche.io.write import write_csv, write_parquet
from metaniche.metrics.shares import variance_shares
from metaniche.predict import Predictor

log = logging.getLogger(__name__)

PAIR = ["ligand", "receptor"]
N_SHUFFLED = 3  # one alone may put the true pair first by accident


class Explanation(NamedTuple):
    """Of the units that were scored.

    `terms`: a row per unit, a column per term of its logit. `pairs`: as `pair_contributions`, empty for a network that
    hears none. `curves`: as `deletion_curves` for the ranking of pairs, beside those by networks whose weights were shuffled;
    empty likewise. `edge_curves`: as `edge_deletion_curves`, beside the same; empty for a network without a signals term.
    `states`: as `state_associations`.
    """

    terms: pd.DataFrame
    pairs: pd.DataFrame
    curves: pd.DataFrame
    edge_curves: pd.DataFrame
    states: pd.DataFrame

    def save(self, run_dir: Path) -> None:
        """Files of a run folder, each whole or not at all."""
        for name, table in (
            (run_files.TERMS, self.terms),
            (run_files.CURVES, self.curves),
            (run_files.EDGE_CURVES, self.edge_curves),
            (run_files.STATES, self.states),
        ):
            write_csv(table, run_dir / name)
        write_parquet(self.pairs, run_dir / run_files.PAIRS)


def explained(
    predictor: Predictor, samples: Sequence[PreparedSample], patients: pd.DataFrame | None = None, *, seed: int = 0
) -> Explanation | None:
    """Explain the units that `samples` hold, which the network should not have been trained on.

    None, with a word in the log, for a network without terms, and for units too few or too alike to tell apart.
    """
    terms = list(predictor.members[0].terms)
    if not terms:
        return None
    scores = predictor.score(samples, patients, coverage_floor=0.0)
    pairs, curves, edge_curves = pd.DataFrame(columns=[*PAIR, "contribution"]), pd.DataFrame(), pd.DataFrame()
    try:
        variance_shares(scores.units[terms])
        if hears_neighbours(predictor):
            others = [_shuffled(predictor, N_SHUFFLED * seed + i) for i in range(N_SHUFFLED)]
            edge_curves = edge_deletion_curves(predictor, samples, patients, shuffled=others, seed=seed)
            if predictor.pairs is not None:
                pairs = pair_contributions(predictor, samples, patients)
                units = scores.units.index
                order = pair_order(predictor, pairs, units)
                by_others = [pair_order(other, pair_contributions(other, samples, patients), units) for other in others]
                curves = deletion_curves(predictor, samples, order, patients, shuffled=by_others, seed=seed)
    except InputError as error:
        log.warning("Nothing is explained: %s", error)
        return None
    return Explanation(scores.units[terms], pairs, curves, edge_curves, state_associations(predictor, samples, scores))


def pair_order(predictor: Predictor, contributions: pd.DataFrame, units: pd.Index) -> list[int]:
    """Positions in `predictor.pairs.pairs`, those first that move the logit most between `units`; where a pair says nothing it
    contributes 0."""
    by_pair = contributions.pivot_table(
        index="unit_id", columns=PAIR, values="contribution", aggfunc="sum", fill_value=0
    )
    spread = by_pair.reindex(units, fill_value=0).var() if len(by_pair) else pd.Series(dtype=float)
    of = [spread.get((row.ligand, row.receptor), 0.0) for row in predictor.pairs.pairs[PAIR].itertuples()]
    return [int(i) for i in np.argsort(-np.array(of), kind="stable")]


def _shuffled(predictor: Predictor, seed: int) -> Predictor:
    """The same network with the entries of every weight in random order: what it learned is gone, their sizes are not."""
    g = torch.Generator().manual_seed(seed)

    def mixed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.flatten()[torch.randperm(tensor.numel(), generator=g)].reshape(tensor.shape)

    states = [{name: mixed(tensor) for name, tensor in state.items()} for state in predictor.bundle.states]
    return Predictor(replace(predictor.bundle, states=states), predictor.device)
