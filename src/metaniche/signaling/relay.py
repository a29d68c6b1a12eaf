"""Relays: a cell that receives one signal and answers with another (ligand - receptor - target - ligand - receptor)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import false_discovery_control
from torch import Tensor

from metaniche.errors import ConfigError, InputError
from metaniche.graph import CellGraph
from metaniche.io.wording import listed
from metaniche.ops import LigandReceptor, received_by_pair, sent_by_pair
from metaniche.signaling.csr import to_scipy, type_codes
from metaniche.signaling.expression import PairExpression
from metaniche.signaling.nulls import judged
from metaniche.signaling.resources import subunits
from metaniche.signaling.scoring import SignalConfig, by_signaling_type

RELAY = ("relay_type", "received_ligand", "received_receptor", "sent_ligand", "sent_receptor")


def relay_chains(expression: PairExpression, targets: pd.DataFrame) -> pd.DataFrame:
    """Chains that a table of receptor-to-target links allows among the measured pairs.

    Parameters
    ----------
    targets
        Columns `receptor` and `target`: a gene that signaling through the receptor induces, directly or by a
        transcription factor. A complex is linked when the whole of it, or one of its subunits, is named.

    Returns
    -------
    A row per chain: `first` and `second`, positions of the received and of the sent pair, and their four names. A ligand that
    would be answered with itself is no chain, since it lies in patches. Raises InputError when columns are missing or no
    chain is left.
    """
    absent = [c for c in ("receptor", "target") if c not in targets]
    if absent:
        raise InputError(f"Expected columns receptor and target, found {listed(targets.columns)}: no {listed(absent)}.")
    induced: dict[str, set[str]] = {}
    for receptor, target in targets[["receptor", "target"]].dropna().astype(str).itertuples(index=False):
        induced.setdefault(receptor, set()).add(target)
    pairs = expression.pairs.reset_index(drop=True)
    sends: dict[str, list[int]] = {}
    for position, ligand in enumerate(pairs["ligand"]):
        for gene in {ligand, *subunits(ligand)}:
            sends.setdefault(gene, []).append(position)
    chains = sorted(
        {
            (first, second)
            for first, receptor in enumerate(pairs["receptor"])
            for name in {receptor, *subunits(receptor)}
            for gene in induced.get(name, ())
            for second in sends.get(gene, ())
            if not set(subunits(pairs["ligand"][first])) & set(subunits(pairs["ligand"][second]))
        }
    )
    if not chains:
        raise InputError(
            f"Expected links from a receptor to a ligand among {len(pairs)} measured pairs, found none in {len(targets)} "
            "rows. Give targets that are ligands, in the gene names of the pairs."
        )
    table = pd.DataFrame(chains, columns=["first", "second"])
    for side, column in (("received", "first"), ("sent", "second")):
        for name in ("ligand", "receptor"):
            table[f"{side}_{name}"] = pairs[name].to_numpy()[table[column]]
    return table


def relays(
    expression: PairExpression,
    cell_types: pd.Categorical,
    graph: CellGraph,
    targets: pd.DataFrame,
    config: SignalConfig | None = None,
) -> pd.DataFrame:
    """`relay` for all chains that `targets` allows (see `relay_chains`), each signal within the reach of its signaling type.

    Returns its table with `q` over all chains and types; cells without a type relay nothing. Raises InputError and
    ConfigError as these two.
    """
    config = config or SignalConfig()
    chains, types = relay_chains(expression, targets), type_codes(cell_types)
    kinds = expression.pairs["signaling_type"].fillna("unknown").to_numpy()
    place = pd.Series(kinds).groupby(kinds).cumcount().to_numpy()  # of each pair among those of its signaling type
    problems = {kind: problem for kind, _, problem in by_signaling_type(expression, graph, config)}
    tables = []
    for (heard, told), mine in chains.groupby([kinds[chains["first"]], kinds[chains["second"]]]):
        here = mine.assign(first=place[mine["first"]], second=place[mine["second"]])
        names = [*types.names, None][: types.n]
        tables.append(relay(problems[heard], here, types.code_N, names, answer=problems[told]))
    table = pd.concat(tables, ignore_index=True)
    table = table[table["relay_type"].notna()].reset_index(drop=True)
    table["q"] = false_discovery_control(table["p"]) if len(table) else np.nan
    return table.sort_values("p", kind="stable", ignore_index=True)


def relay(
    problem: LigandReceptor,
    chains: pd.DataFrame,
    type_N: Tensor,
    types: list[str],
    *,
    answer: LigandReceptor | None = None,
) -> pd.DataFrame:
    """Which types of cells answer one signal with another.

    .. math:: T = \\sum_{i \\in type} received_{i,p} \\, L_{i,q} \\sum_k w_{ki} R_{k,q} = \\sum_{i \\in type} a_i L_{i,q}

    the product of what a cell receives of p and sends of q, against cells of the type that change their ligand of q:
    whether the very cells that hear p make it (an association: they may make it for another reason). Mean
    :math:`n \\bar a \\bar L` and variance :math:`S_a S_L / (n - 1)` over all permutations are exact; the tail is that of a
    gamma variable. What reaches a cell and who listens around it stay, so that dense tissue, where cells receive and send more,
    is not enough, nor is a type that does both. Cells of a type are taken as exchangeable: where receptor and answering
    ligand follow one program of the cell, or both signals lie in patches, p is too small (of simulated tissues with patchy
    genes and no answer 23 % had p <= 0.05).

    Parameters
    ----------
    problem
        The signals of the pairs that are received (see `scoring.signal_problem`), and of those that are sent unless `answer`
        holds them.
    chains
        As `relay_chains` makes them.
    type_N, types
        (N,) int32 type of each cell, and their names.

    Returns
    -------
    A row per chain and type with any of the signal: the chain's names, `relay_type`, `score`, `expected` and `sd` (means
    over the type's cells), `z`, `p`, `q` (Benjamini and Hochberg over the table) and `n_cells`. Smallest p first.
    """
    answer = answer or problem
    if problem.half_saturation is not None or answer.half_saturation is not None:
        raise ConfigError("Expected a score that is a product of a ligand and a receptor term, found mass action.")
    first, second = (torch.from_numpy(chains[c].to_numpy(np.int64)) for c in ("first", "second"))
    shape = len(types), len(chains)
    sums = [np.zeros(shape) for _ in range(5)]
    ones, column = torch.ones(type_N.numel(), 1), torch.zeros_like(answer.lig_P)
    listeners = sent_by_pair(replace(answer, ligand_NL=ones, lig_P=column))
    ligand = to_scipy(answer.ligand_NL)
    for (start, received), (_, around) in zip(received_by_pair(problem), listeners):
        rows = slice(start, start + len(received))
        own = type_N[rows].long()
        r = received[:, first].double() * around[:, second]
        s = torch.from_numpy(ligand[rows].toarray())[:, answer.lig_P[second].long()].double()
        for total, values in zip(sums, (r, s, r * r, s * s, r * s)):
            total += torch.zeros(shape, dtype=torch.float64).index_add_(0, own, values).numpy()
    n = torch.bincount(type_N, minlength=len(types)).double().numpy()[:, None]
    r, s, rr, ss, score = sums
    count = np.maximum(n, 1)
    mean = r * s / count
    variance = (rr - r**2 / count).clip(min=0) * (ss - s**2 / count).clip(min=0) / np.maximum(count - 1, 1)
    null = judged(score, mean, variance)
    kind, chain = np.nonzero(mean > 0)
    out = chains.drop(columns=["first", "second"]).iloc[chain].reset_index(drop=True)
    out["relay_type"] = np.array(types, dtype=object)[kind]
    here = kind, chain
    parts = score, mean, np.sqrt(null.variance)
    out["score"], out["expected"], out["sd"] = (values[here] / count[kind, 0] for values in parts)
    out["z"], out["p"] = null.z[here], null.p[here]
    out["q"] = false_discovery_control(out["p"]) if len(out) else np.nan
    out["n_cells"] = n[kind, 0].astype(int)
    return out.sort_values("p", ignore_index=True)
