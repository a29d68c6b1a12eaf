"""Collective optimal transport of ligands to receptors over the edges of a graph; unmet supply and demand are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, native
from metaniche.ops.cuda import transport as cuda
from metaniche.ops.cuda import transport_newton
from metaniche.ops.reference import transport as reference
from metaniche.ops.segment import check_graph, check_rows

# Links (edge x pair with mass on both sides) that the native solver writes out for one connected part: 0.8 GB. Parts
# with more are solved from the edges alone, which takes less memory and more time.
MOST_LINKS = 2**25
LARGEST_EXPONENT = 600.0  # a product of a scaling and the kernel stays within float64


@dataclass(frozen=True)
class Transport:
    """A solved transport: the scalings of the plan, from which amounts and plans are computed when asked for.

    The plan of pair (l, r) on the edge from j to i is `exp(log_u[j, l] + log_v[i, r] - cost / eps)`, in the units
    of the ligands and receptors given.

    Attributes
    ----------
    log_u_NL, log_v_NR
        float64; -inf where there is no mass or no pair.
    iterations_S
        Kernel products (reference: turns of the loop) of each sample's slowest group of pairs.
    marginal_error_S
        Share of the mass by which plan and slack miss the marginals of one side; those of the other hold exactly.
    converged_S
        Whether the error came down to the tolerance.
    """

    log_u_NL: Tensor
    log_v_NR: Tensor
    iterations_S: Tensor
    marginal_error_S: Tensor
    converged_S: Tensor
    _pairs: np.ndarray = field(repr=False)
    _graph: tuple[Tensor, Tensor, Tensor] = field(repr=False)

    def amounts(self, pairs: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """What each cell sends and receives: (N, P), (N, P) float64 for the pairs at these positions, or all.

        Many pairs are streamed by asking for a block of them at a time.
        """
        chosen = self._pairs if pairs is None else self._pairs[self._checked(pairs)]
        ligand, receptor = chosen.T.copy()
        device = self.log_u_NL.device
        chosen = choose("transport", device)
        if chosen == "cuda":
            return self._amounts_on_gpu(ligand, receptor)
        u, v = (x.exp().cpu().numpy() for x in (self.log_u_NL, self.log_v_NR))
        graph = indptr, indices, kernel = tuple(x.cpu().numpy() for x in self._graph)
        turned = sparse.csr_array((kernel, indices, indptr), shape=(len(u), len(v))).T.tocsr()
        by_sender = turned.indptr.astype(np.int64), turned.indices.astype(np.int32), turned.data
        sent = _amounts(chosen, u, v, ligand, receptor, *by_sender)
        received = _amounts(chosen, v, u, receptor, ligand, *graph)
        return tuple(torch.from_numpy(x).to(device) for x in (sent, received))

    def _amounts_on_gpu(self, ligand: np.ndarray, receptor: np.ndarray) -> tuple[Tensor, Tensor]:
        u, v = self.log_u_NL.exp(), self.log_v_NR.exp()
        own, other = (torch.from_numpy(column).to(u.device) for column in (ligand, receptor))
        sent = cuda.amounts(u, v, own, other, cuda.turned(*self._graph))
        return sent, cuda.amounts(v, u, other, own, self._graph)

    def plan(self, pair: int) -> Tensor:
        """(E,) float64: what the pair at this position sends over every edge."""
        ligand, receptor = self._pairs[self._checked([pair])[0]]
        indptr, indices, kernel = self._graph
        u = self.log_u_NL[:, ligand].exp()[indices.long()]
        return u * kernel * self.log_v_NR[:, receptor].exp().repeat_interleave(indptr.diff())

    def _checked(self, pairs: Sequence[int]) -> np.ndarray:
        chosen = np.asarray(pairs, dtype=np.int64)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self._pairs)):
            raise GraphError(f"Expected pairs in [0, {len(self._pairs)}), found {chosen.min()}..{chosen.max()}.")
        return chosen


def transport(
    ligand_NL: Tensor,
    receptor_NR: Tensor,
    pairs_P2: Tensor,
    indptr: Tensor,
    indices: Tensor,
    cost_E: Tensor,
    *,
    sample_ptr: Tensor | None = None,
    eps: float = 0.1,
    rho: float = 10.0,
    tolerance: float = 1e-8,
    max_iter: int = 50_000,
) -> Transport:
    """Transport every ligand to the receptors it pairs with; pairs compete for shared ligands and receptors.

    Per sample, with costs divided by the largest cost of its edges and both masses by the larger of their sums, the
    plan P over pairs (l, r) and edges j -> i minimises

    .. math::
        \\sum P_{jlir} c_{ij} + \\rho (\\sum s_{jl} + \\sum t_{ir})
        + \\epsilon \\sum [h(P) + h(s) + h(t)], \\quad h(x) = x (\\log x - 1),

    where :math:`s_{jl} = a_{jl} - \\sum_{ir} P_{jlir} \\ge 0` is supply and :math:`t_{ir} = b_{ir} - \\sum_{jl}
    P_{jlir} \\ge 0` demand that stays unmet. This is COMMOT's collective optimal transport (Cang et al. 2023,
    doi:10.1038/s41592-022-01728-4), all ligands with all receptors at a cost that is finite on the edges only. COMMOT
    counts a cell as its own neighbour at cost 0: put self edges into the graph for that. Its three other variants
    are calls with one ligand, one receptor or one pair at a time.

    The solution has the form :math:`P = u K v`, :math:`K = e^{-c/\\epsilon}`,
    :math:`u = a / (K v + e^{-\\rho/\\epsilon})`. The native solvers maximise the dual over v by Newton steps, each
    solved by conjugate gradients within a trust region, with rho growing to its value; the reference is COMMOT's
    loop. The CPU solves parts between which no mass can go, and samples, apart; a GPU takes the steps of all samples
    and groups of pairs at once, each with its own length and end. Memory is O(E + N (L + R)): on the CPU up to 0.8 GB
    for the links of a connected part, on a GPU some 25 float64 for every cell and named ligand or receptor. A plan is
    never stored. The result lies on the device of `ligand_NL`.

    Parameters
    ----------
    ligand_NL, receptor_NR
        Expression, not negative, of a float type.
    pairs_P2
        int64 columns of the ligand and the receptor of each pair, no pair twice.
    indptr, indices
        CSR of the graph, row = receiver i, columns = senders j of the same sample: (N + 1,) int64 and (E,) int32.
    cost_E
        Cost of each edge, such as its length, not negative; its unit does not matter.
    sample_ptr
        (S + 1,) int64; cells `sample_ptr[s]:sample_ptr[s + 1]` are sample s. One sample when left out.
    eps, rho
        Entropic smoothing and the penalty of unmet mass, in units of the largest cost.
    tolerance
        Largest marginal error, as a share of the demand of each group of pairs.
    max_iter
        Most kernel products (reference: turns of the loop) of each sample and group of pairs.

    Raises
    ------
    GraphError
        When shapes, dtypes or values do not fit, or when eps is too small for float64.
    """
    ptr = torch.tensor([0, ligand_NL.shape[0]]) if sample_ptr is None else sample_ptr.cpu()
    device = ligand_NL.device
    given = ligand_NL, receptor_NR, pairs_P2, indptr, indices, cost_E
    ligand_NL, receptor_NR, pairs_P2, indptr, indices, cost_E = (x.detach().cpu() for x in given)
    _check_masses(ligand_NL, receptor_NR, pairs_P2)
    _check_graph(ligand_NL.shape[0], indptr, indices, cost_E, ptr)
    _check_numbers(eps, rho, tolerance, max_iter)
    pairs, ptr = pairs_P2.numpy().astype(np.int32, order="C"), ptr.contiguous().numpy()
    ligand, receptor, amount_N = _shares(ligand_NL, receptor_NR, ptr)
    graph = indptr.contiguous().numpy(), indices.contiguous().numpy()
    exponent = _exponents(cost_E, graph[0], ptr, eps)
    kernel = np.exp(-exponent)
    chosen = choose("transport", device)
    solvers = {"cuda": partial(_solve_on_gpu, device), "cpu": _solve, "reference": reference.transport_solve}
    weights = exponent if chosen == "reference" else kernel
    solved = solvers[chosen](ligand, receptor, pairs, ptr, *graph, weights, rho / eps, tolerance, max_iter)
    log_u, log_v, iterations, error, *edges = (torch.as_tensor(x).to(device) for x in (*solved, *graph, kernel))
    log_u += torch.from_numpy(amount_N).log().to(device)[:, None]
    return Transport(log_u, log_v, iterations, error, error <= tolerance, _pairs=pairs, _graph=tuple(edges))


def _solve_on_gpu(device, ligand, receptor, pairs, ptr, indptr, indices, kernel, penalty, tolerance, max_iter):
    _, group_of = _groups(pairs, ligand.shape[1], receptor.shape[1])
    given = (torch.from_numpy(x).to(device) for x in (ligand, receptor, ptr, indptr, indices, kernel))
    ligand, receptor, ptr, *edges = given
    return transport_newton.solve(ligand, receptor, pairs, group_of, ptr, tuple(edges), penalty, tolerance, max_iter)


def _solve(ligand, receptor, pairs, ptr, indptr, indices, kernel, penalty, tolerance, max_iter) -> reference.Solution:
    log_u, log_v = np.full(ligand.shape, -np.inf), np.full(receptor.shape, -np.inf)
    groups, group_of = _groups(pairs, ligand.shape[1], receptor.shape[1])
    shape = len(ptr) - 1, groups
    products, missing, demand = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
    native().transport_solve(
        ligand, receptor, pairs, group_of, ptr, indptr, indices, kernel, penalty, tolerance, max_iter,
        MOST_LINKS, log_u, log_v, products, missing, demand,
    )  # fmt: skip
    error = missing.sum(1) / np.maximum(demand.sum(1), np.finfo(float).tiny)
    return log_u, log_v, products.max(1, initial=0), error


def _groups(pairs: np.ndarray, n_ligands: int, n_receptors: int) -> tuple[int, np.ndarray]:
    """Groups of pairs that share ligands or receptors, directly or over other pairs; only these compete."""
    shape = (n_ligands + n_receptors,) * 2
    links = sparse.coo_array((np.ones(len(pairs)), (pairs[:, 0], n_ligands + pairs[:, 1])), shape)
    _, label = connected_components(links, directed=False)
    names, group_of = np.unique(label[pairs[:, 0]], return_inverse=True)
    return len(names), group_of.astype(np.int32)


def _amounts(chosen: str, *args: np.ndarray) -> np.ndarray:
    if chosen == "reference":
        return reference.transport_amounts(*args)
    amounts = np.empty((len(args[0]), len(args[2])))
    native().transport_amounts(*args, amounts)
    return amounts


def _shares(ligand_NL: Tensor, receptor_NR: Tensor, ptr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masses as shares of the larger total of each sample, and that total for every cell."""
    # Always a copy: the shares are written in place.
    ligand, receptor = (x.numpy().astype(np.float64, order="C") for x in (ligand_NL, receptor_NR))
    amount_N = np.ones(len(ligand))
    for first, last in zip(ptr[:-1].tolist(), ptr[1:].tolist()):
        amount = max(ligand[first:last].sum(), receptor[first:last].sum()) or 1.0
        ligand[first:last] /= amount
        receptor[first:last] /= amount
        amount_N[first:last] = amount
    return ligand, receptor, amount_N


def _exponents(cost_E: Tensor, indptr: np.ndarray, ptr: np.ndarray, eps: float) -> np.ndarray:
    exponent = cost_E.numpy().astype(np.float64, order="C")
    for first, last in zip(indptr[ptr[:-1]], indptr[ptr[1:]]):
        exponent[first:last] /= eps * (exponent[first:last].max(initial=0.0) or 1.0)
    return exponent


def _check_numbers(eps: float, rho: float, tolerance: float, max_iter: int) -> None:
    if not (eps > 0 and rho > 0 and (1 + rho) / eps <= LARGEST_EXPONENT and 0 < tolerance < 1 and max_iter >= 1):
        raise GraphError(
            f"Expected eps > 0, rho > 0 and (1 + rho) / eps <= {LARGEST_EXPONENT:.0f}, 0 < tolerance < 1 and "
            f"max_iter >= 1, found eps={eps}, rho={rho}, tolerance={tolerance}, max_iter={max_iter}. Raise eps."
        )


def _check_masses(ligand_NL: Tensor, receptor_NR: Tensor, pairs_P2: Tensor) -> None:
    shapes = tuple(ligand_NL.shape), tuple(receptor_NR.shape), tuple(pairs_P2.shape)
    if ligand_NL.ndim != 2 or receptor_NR.ndim != 2 or shapes[0][0] != shapes[1][0]:
        raise GraphError(f"Expected ligands (N, L) and receptors (N, R), found {shapes[0]} and {shapes[1]}.")
    if ligand_NL.numel() + receptor_NR.numel() >= 2**31:
        raise GraphError("Expected N (L + R) below 2**31 in one call, found more. Solve sample by sample.")
    for name, x in (("ligand_NL", ligand_NL), ("receptor_NR", receptor_NR)):
        if not x.is_floating_point() or not (torch.isfinite(x) & (x >= 0)).all():
            raise GraphError(
                f"Expected `{name}` of a float type, finite and not negative, found {x.dtype} that is not."
            )
    if pairs_P2.dtype != torch.int64 or pairs_P2.ndim != 2 or shapes[2][1] != 2:
        raise GraphError(f"Expected `pairs_P2` (P, 2) int64, found {shapes[2]} {pairs_P2.dtype}.")
    limits = torch.tensor([shapes[0][1], shapes[1][1]])
    if ((pairs_P2 < 0) | (pairs_P2 >= limits)).any():
        raise GraphError(f"Expected `pairs_P2` to name {limits[0]} ligands and {limits[1]} receptors, found others.")
    if len(torch.unique(pairs_P2, dim=0)) != len(pairs_P2):
        raise GraphError("Expected no pair twice in `pairs_P2`, found one. Drop the copies.")


def _check_graph(n: int, indptr: Tensor, indices: Tensor, cost_E: Tensor, ptr: Tensor) -> None:
    check_graph(indptr, indices, n)
    check_rows(ptr, n)
    if cost_E.shape != indices.shape or not (torch.isfinite(cost_E) & (cost_E >= 0)).all():
        raise GraphError(
            f"Expected `cost_E` of shape {tuple(indices.shape)}, finite and not negative, found {tuple(cost_E.shape)}"
            f"{'' if cost_E.shape != indices.shape else ' that is not'}."
        )
    first, last = (
        bound.repeat_interleave(ptr.diff()).repeat_interleave(indptr.diff()) for bound in (ptr[:-1], ptr[1:])
    )
    outside = int(((indices < first) | (indices >= last)).sum())
    if outside:
        raise GraphError(f"Expected senders of the receiver's own sample, found {outside} edges to other cells.")
