"""Relays: a cell that receives one signal and answers with another (ligand - receptor - target - ligand - receptor)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import false_discovery_control
from torch import Tensor

from metaniche.errors import ConfigError, InputError
from metaniche.graph import CellGraph
from metaniche.io.progress import Tell
from metaniche.io.wording import listed
from metaniche.ops import LigandReceptor, received_by_pair, sent_by_pair
from metaniche.signaling.by_type import Groups, type_codes
from metaniche.signaling.csr import take_rows
from metaniche.signaling.expression import PairExpression
from metaniche.signaling.nulls import SignalNull, judged, judged_by_draws, tell_draws
from metaniche.signaling.scoring import by_signaling_type, inside
from metaniche.signaling.shifts import KeptShifts
from metaniche.signaling.signal_config import SignalConfig

CHAINS_AT_ONCE = 1024
VALUES_AT_ONCE = 2**25  # cells x chains of the few tables that are held: 128 MB each in float32
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
        for gene in {ligand, *expression.genes[ligand]}:
            sends.setdefault(gene, []).append(position)
    chains = sorted(
        {
            (first, second)
            for first, receptor in enumerate(pairs["receptor"])
            for name in {receptor, *expression.genes[receptor]}
            for gene in induced.get(name, ())
            for second in sends.get(gene, ())
            if not set(expression.genes[pairs["ligand"][first]]) & set(expression.genes[pairs["ligand"][second]])
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
    progress: Tell | None = None,
) -> pd.DataFrame:
    """`relay` for all chains that `targets` allows (see `relay_chains`), each signal within the reach of its signaling type.

    The null is `relay_null` of the config; the device of `expression` and `graph` does the work. Returns the
    table with `q` over all chains and types; cells without a type relay nothing. Raises InputError and ConfigError as these
    two.
    """
    config = config or SignalConfig()
    chains, types = relay_chains(expression, targets), type_codes(cell_types, graph.pos_um.device)
    kind_of, place = np.empty(expression.n_pairs, dtype=object), np.empty(expression.n_pairs, dtype=np.int64)
    for kind, mine in expression.by_signaling_type():
        kind_of[mine], place[mine] = kind, np.arange(len(mine))
    problems = {kind: problem for kind, _, problem in by_signaling_type(expression, graph, config)}
    shifts = None
    if relay_null(config) == "shifts":
        shifts = Shifts(graph.pos_um, config.n_permutations, config.stop_after, config.seed).kept(types.code_N)
    tables, by_kinds = [], chains.groupby([kind_of[chains["first"]], kind_of[chains["second"]]])
    for number, ((heard, sent), mine) in enumerate(by_kinds):
        tell = progress and partial(inside, progress, number, by_kinds.ngroups, f"{sent} in answer to {heard}")
        here = mine.assign(first=place[mine["first"]], second=place[mine["second"]])
        names = [*types.names, None][: types.n]
        tables.append(
            relay(problems[heard], here, types.code_N, names, answer=problems[sent], shifts=shifts, progress=tell)
        )
    table = pd.concat(tables, ignore_index=True)
    table = table[table["relay_type"].notna()].reset_index(drop=True)
    table["q"] = false_discovery_control(table["p"]) if len(table) else np.nan
    return table.sort_values("p", kind="stable", ignore_index=True)


def relay_null(config: SignalConfig) -> str:
    """The null that relays are tested against: shifts where signals are, else positions, whatever those of signals."""
    return "shifts" if config.null_model == "shifts" else "positions"


class Shifts(NamedTuple):
    """The null of `shifts.shift_null` for relays: its positions, how many shifts, when they stop, and their seed; `sources`
    where they are kept.
    """

    pos_um: Tensor
    n_shifts: int
    stop_after: int
    seed: int
    sources: KeptShifts | None = None

    def kept(self, type_N: Tensor) -> Shifts:
        """The same shifts of cells of these types, searched once."""
        return self._replace(sources=KeptShifts(self.pos_um, type_N, self.n_shifts, True, self.seed))


def relay(
    problem: LigandReceptor,
    chains: pd.DataFrame,
    type_N: Tensor,
    types: list[str],
    *,
    answer: LigandReceptor | None = None,
    shifts: Shifts | None = None,
    progress: Tell | None = None,
) -> pd.DataFrame:
    """Which types of cells answer one signal with another.

    .. math:: T = \\sum_{i \\in type} received_{i,p} \\, L_{i,q} \\sum_k w_{ki} R_{k,q} = \\sum_{i \\in type} a_i L_{i,q}

    the product of what a cell receives of p and sends of q, against cells of the type that change their ligand of q:
    whether the very cells that hear p make it (an association: they may make it for another reason). Mean
    :math:`n \\bar a \\bar L` and variance :math:`S_a S_L / (n - 1)` over all permutations are exact; the tail is that of a
    gamma variable. What reaches a cell and who listens around it stay, so that dense tissue, where cells receive and send more,
    is not enough, nor is a type that does both.

    Cells of a type are taken as exchangeable. Where both signals lie in patches p is too small (of simulated tissues with
    patchy genes and no answer 18 to 23 % had p <= 0.05); with `shifts` the answering ligand is moved over the tissue as one
    piece instead (see `shifts.shift_null`), which keeps the patches (7 to 9 %). No null of positions helps where receptor
    and answering ligand follow one program of the cell.

    Parameters
    ----------
    problem
        The signals of the pairs that are received (see `scoring.signal_problem`), and of those that are sent unless `answer`
        holds them.
    chains
        As `relay_chains` makes them.
    type_N, types
        (N,) int32 type of each cell, and their names.
    shifts
        None: permutations within types, in closed form.

    Returns
    -------
    A row per chain and type with any of the signal: the chain's names, `relay_type`, `score`, `expected` and `sd` (means
    over the type's cells), `z`, `p` and `n_cells`. Smallest p first.
    """
    answer = answer or problem
    if problem.half_saturation is not None or answer.half_saturation is not None:
        raise ConfigError("Expected a score that is a product of a ligand and a receptor term, found mass action.")
    first, second = (torch.from_numpy(chains[c].to_numpy(np.int64)).to(type_N.device) for c in ("first", "second"))
    found = _Chains(problem, answer, first, second, type_N, len(types))
    n = torch.bincount(type_N, minlength=len(types)).double().numpy(force=True)[:, None]
    r, s, rr, ss, score = found.moments()
    count = np.maximum(n, 1)
    mean = r * s / count
    variance = (rr - r**2 / count).clip(min=0) * (ss - s**2 / count).clip(min=0) / np.maximum(count - 1, 1)
    there = mean > 0
    null = judged(score, mean, variance) if shifts is None else found.shifted(shifts, progress)
    kind, chain = here = np.nonzero(there)
    out = chains.drop(columns=["first", "second"]).iloc[chain].reset_index(drop=True)
    out["relay_type"] = np.array(types, dtype=object)[kind]
    parts = null.score, null.mean, np.sqrt(null.variance)
    out["score"], out["expected"], out["sd"] = (values[here] / count[kind, 0] for values in parts)
    out["z"], out["p"] = null.z[here], null.p[here]
    out["n_cells"] = n[kind, 0].astype(int)
    return out.sort_values("p", ignore_index=True)


@dataclass(frozen=True)
class _Chains:
    """Chains (C) of two signals. In every cell, a is what it hears of the first times who listens to the second, and L its
    ligand of the second.
    """

    problem: LigandReceptor
    answer: LigandReceptor
    first: Tensor
    second: Tensor
    type_N: Tensor
    n_types: int

    def moments(self) -> tuple[np.ndarray, ...]:
        """Sums (T, C) over each type's cells of a, L, a^2, L^2 and a L."""
        sums = torch.zeros(5, self.n_types, len(self.first), dtype=torch.float64, device=self.type_N.device)
        for rows, received, around, ligand in self._cells():
            groups = Groups.of(self.type_N[rows], self.n_types)
            for start in range(0, len(self.first), CHAINS_AT_ONCE):
                block = slice(start, start + CHAINS_AT_ONCE)
                a = received[:, self.first[block]].double() * around[:, self.second[block]]
                made = ligand[:, self.second[block]].double()
                for total, values in zip(sums, (a, made, a * a, made * made, a * made)):
                    total[:, block] += groups.sums(values)
        return tuple(sums.numpy(force=True))

    def shifted(self, shifts: Shifts, progress: Tell | None = None) -> SignalNull:
        """The sum of a L beside what it is when the ligands of each type are moved over the tissue."""
        n = self.type_N.numel()
        at_once = max(1, VALUES_AT_ONCE // max(n, 1))
        if shifts.sources is None:
            shifts = shifts.kept(self.type_N)
        groups, parts = Groups.of(self.type_N, self.n_types), []
        starts = range(0, len(self.first), at_once)
        for number, start in enumerate(starts):
            text = f"shifts of ligands, part {number + 1} of {len(starts)}"
            tell = progress and partial(tell_draws, progress, shifts.n_shifts, text)
            a, made = self._block(slice(start, start + at_once))._dense()
            drawn = (
                groups.sums(a * made[torch.from_numpy(cell).to(made.device).long()]).numpy(force=True)
                for cell in shifts.sources
            )
            score = groups.sums(a * made).numpy(force=True)
            parts.append(judged_by_draws(score, drawn, shifts.stop_after, tell))
        return SignalNull(*(np.concatenate(part, axis=1) for part in zip(*parts)))

    def _cells(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Some cells at a time: what they receive of each pair, and of each answering pair who listens and their ligand."""
        n, ligand = self.type_N.numel(), self.answer.ligand_NL
        ones, column = torch.ones(n, 1, device=ligand.device), torch.zeros_like(self.answer.lig_P)
        listeners = sent_by_pair(replace(self.answer, ligand_NL=ones, lig_P=column))
        for (start, received), (_, around) in zip(received_by_pair(self.problem), listeners):
            cells = torch.arange(start, start + len(received), device=ligand.device)
            made = take_rows(ligand, cells).to_dense()[:, self.answer.lig_P.long()]
            yield slice(start, start + len(received)), received, around, made

    def _block(self, chosen: slice) -> _Chains:
        """Some of the chains, and no pairs but theirs."""
        heard, first = self.first[chosen].unique(return_inverse=True)
        sent, second = self.second[chosen].unique(return_inverse=True)
        problem, answer = (
            replace(side, lig_P=side.lig_P[pairs], rec_P=side.rec_P[pairs])
            for side, pairs in ((self.problem, heard), (self.answer, sent))
        )
        return replace(self, problem=problem, answer=answer, first=first, second=second)

    def _dense(self) -> tuple[Tensor, Tensor]:
        """a and L (N, C) of all cells."""
        a, made = torch.empty(2, self.type_N.numel(), len(self.first), device=self.type_N.device)
        for rows, received, around, ligand in self._cells():
            a[rows] = received[:, self.first] * around[:, self.second]
            made[rows] = ligand[:, self.second]
        return a, made
