"""What every ligand-receptor pair adds to a unit's logit, between which cell types: exact, for networks that hear pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaniche.data.batch import Batch
from metaniche.data.outcome import of_event
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Task
from metaniche.errors import ConfigError
from metaniche.models import MIL
from metaniche.ops import LigandReceptor, type_pair_sums
from metaniche.predict import Predictor

UNTYPED = "untyped"


@torch.no_grad()
def pair_contributions(
    predictor: Predictor, samples: Sequence[PreparedSample], patients: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The signals term of every unit's logit as a sum over pairs, sender types and receiver types.

    With :math:`A_i` the attention of cell i in its unit, and the effect :math:`c_{ij}` of a unit of mass action on an edge
    (see `SeedSoil.edge_effects`), the pair p adds :math:`\\sum_{ij} A_i c_{ij} w_p L_{jp} R_{ip}`. This says what the network
    computes, not what blocking the pair would do to the tumour.

    Parameters
    ----------
    predictor
        Of a bundle whose network hears pairs. Means over its members, and over outputs where it has several.
    samples, patients
        As in `Predictor.score`.

    Returns
    -------
    A row per unit, sender type, receiver type and pair whose contribution is not 0: `unit_id`, `sender`, `receiver`,
    `ligand`, `receptor`, `signaling_type`, `pathway` and `contribution` on the scale of the terms. Raises ConfigError for a
    bundle without pairs.
    """
    if predictor.pairs is None:
        raise ConfigError(
            f"Expected a bundle whose network hears ligand-receptor pairs, found {predictor.bundle.architecture} without. "
            "Train model=seed_soil on data that measures pairs."
        )
    pairs = predictor.pairs.pairs
    tables = []
    for unit, members, tissue in predictor.batches(samples, patients):
        batch = tissue.to(predictor.device)
        names, codes = _types(members)
        type_N = torch.from_numpy(codes).to(predictor.device)
        found = (
            np.mean(
                [_of_member(m, predictor.task, batch, pairs, type_N, len(names)) for m in predictor.members], axis=0
            )
            / predictor.temperature
        )
        sender, receiver, pair = np.nonzero(found)
        rows = pairs.iloc[pair].reset_index(drop=True)
        rows.insert(0, "unit_id", unit)
        rows.insert(1, "sender", names[sender])
        rows.insert(2, "receiver", names[receiver])
        tables.append(rows.assign(contribution=found[sender, receiver, pair]))
    return pd.concat(tables, ignore_index=True)


def _of_member(network: MIL, task: Task, batch: Batch, pairs: pd.DataFrame, type_N: Tensor, n_types: int) -> np.ndarray:
    """(T, T, P) contributions to the one bag of the batch."""
    attention = network(*batch.tissue).attention
    out = np.zeros((n_types, n_types, len(pairs)))
    for part in network.edge_effects(batch.signals, batch.graph):
        weight = attention[part.graph.receivers()] * of_event(task, part.effect).mean(1)
        problem = LigandReceptor(
            batch.signals, batch.signals, part.ligand, part.receptor, part.graph.indptr, part.graph.indices, weight
        )
        mine = np.flatnonzero(pairs["signaling_type"] == part.family)
        out[:, :, mine] += (type_pair_sums(problem, type_N, n_types)[0] * part.weight).cpu().numpy()
    return out


def _types(samples: Sequence[PreparedSample]) -> tuple[np.ndarray, np.ndarray]:
    """Names of the cell types of these samples, and the int32 code of every cell in order."""
    of_cells = [
        np.full(s.n_cells, UNTYPED, dtype=object)
        if s.cell_types is None
        else pd.Series(s.cell_types).astype(object).fillna(UNTYPED).to_numpy()
        for s in samples
    ]
    codes, names = pd.factorize(np.concatenate(of_cells), sort=True)
    return np.asarray(names, dtype=object), codes.astype(np.int32)
