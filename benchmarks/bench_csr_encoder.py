"""csr_encoder beside torch's and scipy's sparse products: JSON lines on standard output."""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings

import numpy as np
import torch
from scipy import sparse

from metaniche.ops import csr_encoder


def make_expression(cells: int, genes: int, per_cell: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    indices = np.sort(rng.integers(0, genes, (cells, per_cell)), 1).astype(np.int32).ravel()
    values = rng.random(cells * per_cell, dtype=np.float32)
    return torch.arange(0, len(indices) + 1, per_cell), torch.from_numpy(indices), torch.from_numpy(values)


def measured(op: str, size: dict, call, repeats: int) -> None:
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"op": op, **size, "seconds": float(np.median(seconds)), "extra_mb": extra}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--per-cell", type=int, default=1000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    weight = torch.randn(options.genes, options.width, requires_grad=True)
    plain = weight.detach()
    for n in options.cells:
        size = {"cells": n, "genes": options.genes, "per_cell": options.per_cell, "width": options.width}
        csr = make_expression(n, options.genes, options.per_cell)
        shape = (n, options.genes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = torch.sparse_csr_tensor(csr[0], csr[1].long(), csr[2], shape)
        matrix = sparse.csr_matrix((csr[2].numpy(), csr[1].numpy(), csr[0].numpy()), shape)
        out = csr_encoder(*csr, weight)
        direction = torch.randn_like(out)
        measured("csr_encoder", size, lambda x=csr: csr_encoder(*x, plain), options.repeats)
        measured("torch.sparse", size, lambda x=theirs: x @ plain, options.repeats)
        measured("scipy", size, lambda x=matrix: x @ plain.numpy(), 1)
        backward = {"outputs": out, "inputs": weight, "grad_outputs": direction, "retain_graph": True}
        measured("csr_encoder gradient", size, lambda x=backward: torch.autograd.grad(**x), options.repeats)
        measured("scipy gradient", size, lambda x=matrix, g=direction: x.T @ g.numpy(), 1)


if __name__ == "__main__":
    main()
