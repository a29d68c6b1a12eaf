"""Transport and sparse expression times weights on a GPU: large comparisons for gpu_check.py, times for gpu_bench.py."""

from __future__ import annotations

import gpu_bench
import torch
from torch import Tensor

from metaniche.ops import csr_encoder, knn_neighbors, transport
from metaniche.ops.backend import use_backend

PAIRS = torch.tensor([[0, 0], [0, 1], [1, 1], [2, 2], [3, 2], [4, 3], [5, 4], [6, 5]])
TOLERANCE = 1e-8


def large(n: int) -> list[str]:
    """Both ops on fresh random inputs against the CPU; what differs."""
    return large_encoder(n) + large_transport(n // 2)


def large_encoder(n: int) -> list[str]:
    failures = []
    indptr, indices, values = (x.cpu() for x in expression(n, 1000, 0.05, "cpu"))
    for width in (1, 20, 128):
        weight, grad = torch.randn(1000, width), torch.randn(n, width)
        results = []
        for device, dtype, backend in (("cuda", torch.float32, "cuda"), ("cpu", torch.float64, "reference")):
            x, w = (t.to(device, dtype).requires_grad_() for t in (values, weight))
            with use_backend(backend):
                out = csr_encoder(indptr.to(device), indices.to(device), x, w)
                results.append((out, *torch.autograd.grad(out, (x, w), grad.to(device, dtype))))
        for name, own, other in zip(("out", "values", "weight"), *results):
            error = float((own.detach().cpu().double() - other.detach()).norm() / other.detach().norm())
            if not error < 1e-5:
                failures.append(f"csr_encoder of width {width}, {name}: relative error {error:.1e}")
    return failures


def large_transport(n: int) -> list[str]:
    failures, ptr = [], torch.tensor([0, n // 3, n])
    with use_backend("auto"):
        graph = knn_neighbors(torch.rand(n, 2) * n**0.5, ptr, 10)
    ligand, receptor = masses(n, "cpu")
    for rho in (1.0, 10.0):
        settings = dict(sample_ptr=ptr, rho=rho, tolerance=TOLERANCE)
        with use_backend("auto"):
            expected = transport(ligand, receptor, PAIRS, *graph, **settings).amounts()
        given = (x.cuda() for x in (ligand, receptor, PAIRS, *graph))
        found = transport(*given, **settings)
        if not found.converged_S.all():
            failures.append(f"transport at rho {rho} ends at marginal errors {found.marginal_error_S.tolist()}")
        for name, own, other in zip(("sent", "received"), found.amounts(), expected):
            error = float((own.cpu() - other).abs().max() / other.max())
            if not error < 1e-5:
                failures.append(f"transport at rho {rho}, {name}: {error:.1e} of the largest amount from the CPU's")
    return failures


def encoder(speed: float, n: int = 200_000, genes: int = 2000, width: int = 128) -> list[gpu_bench.Timing]:
    """Bound: each entry, weight and result once; reads of weights for every entry should be the cache's."""
    sets = [expression(n, genes, 0.05, "cuda", seed) for seed in range(gpu_bench.SETS)]
    weight, grad = (torch.randn(rows, width, device="cuda") for rows in (genes, n))
    weight.requires_grad_()
    n_bytes = 8 * sets[0][1].numel() + 4 * width * (n + genes) + 8 * n

    def infer(csr):
        with torch.no_grad():
            return csr_encoder(*csr, weight)

    def train(csr):
        return torch.autograd.grad(csr_encoder(*csr, weight), weight, grad)

    size = f"{sets[0][1].numel() / 1e6:.3g} M entries x {width}"
    return [
        gpu_bench.timed("csr_encoder forward", size, infer, sets, n_bytes, speed),
        gpu_bench.timed("csr_encoder forward + gradient of weights", size, train, sets, 2 * n_bytes, speed),
    ]


def solver(speed: float, n: int = 100_000) -> list[gpu_bench.Timing]:
    """Bound: the edges twice and the masses' arrays five times a kernel product, for the products that it took.

    The checks and the shares on the host are in the time.
    """
    ptr, pairs = torch.tensor([0, n], device="cuda"), PAIRS.cuda()
    sets = [
        (*masses(n, "cuda"), pairs, *knn_neighbors(gpu_bench.tissue(n, seed), ptr, gpu_bench.NEIGHBOURS))
        for seed in range(gpu_bench.SETS)
    ]

    def run(given):
        return transport(*given, rho=1.0, tolerance=1e-6)

    products = sum(int(run(given).iterations_S.max()) for given in sets) / len(sets)
    n_bytes = products * (24 * gpu_bench.NEIGHBOURS * n + 40 * n * sum(x.shape[1] for x in sets[0][:2]))
    size = f"{n / 1e6:g} M cells, {len(PAIRS)} pairs, {products:.0f} products"
    return [gpu_bench.timed("transport", size, run, sets, n_bytes, speed)]


def expression(n: int, genes: int, density: float, device: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """CSR of random counts, some genes expressed by many cells and most by few."""
    generator = torch.Generator(device=device).manual_seed(seed + torch.initial_seed() % 1000)
    share = (density * 4) * torch.rand(genes, device=device, generator=generator) ** 3
    rows, columns = [], []
    for first in range(0, n, 50_000):
        size = min(50_000, n - first)
        present = (torch.rand(size, genes, device=device, generator=generator) < share).nonzero()
        rows.append(present[:, 0] + first)
        columns.append(present[:, 1].int())
    indices = torch.cat(columns)
    degree = torch.bincount(torch.cat(rows), minlength=n)
    values = torch.rand(len(indices), device=device, generator=generator)
    return torch.cat((degree.new_zeros(1), degree.cumsum(0))), indices, values


def masses(n: int, device: str) -> tuple[Tensor, Tensor]:
    """Ligands (n, 7) and receptors (n, 6), three of ten present."""
    found = []
    for width in (7, 6):
        x = torch.rand(n, width, device=device)
        found.append(x * (torch.rand(n, width, device=device) < 0.3))
    return found[0], found[1]
