"""One attention layer, forward and backward, projections counted: 15 neighbours per cell, cells along a Hilbert curve."""

from functools import partial

from bench_neighbors import K, tissue
from harness import Case


def layer_inputs(n: int, heads: int, channels: int) -> dict:
    import torch

    from metaniche.ops import hilbert_order, knn_neighbors

    x = tissue(n)
    pos = x["pos"][hilbert_order(x["pos"], x["ptr"])].contiguous()
    indptr, indices, _ = knn_neighbors(pos, x["ptr"], K)
    torch.manual_seed(0)
    width = heads * channels
    return {
        "x": torch.randn(n, width), "indptr": indptr, "indices": indices, "heads": heads, "width": width,
        "bias": torch.randn(len(indices), heads),
    }  # fmt: skip


def ours(given: dict) -> object:
    import torch

    from metaniche.ops import edge_attention

    n, heads, width = len(given["x"]), given["heads"], given["width"]
    project = torch.nn.Linear(width, 3 * width)
    bias = given["bias"].clone().requires_grad_()
    null = torch.zeros(heads, requires_grad=True)
    q, k, v = project(given["x"]).view(n, 3, heads, -1).unbind(1)
    out = edge_attention(q, k, v, given["indptr"], given["indices"], bias, null)
    out.sum().backward()
    return project.weight.grad


def geometric(given: dict, layer: str) -> object:
    import torch
    import torch_geometric.nn as pyg

    heads, width = given["heads"], given["width"]
    rows = torch.repeat_interleave(given["indptr"].diff())
    edges = torch.stack((given["indices"].long(), rows))
    made = getattr(pyg, layer)(width, width // heads, heads=heads)
    made(given["x"], edges).sum().backward()
    return next(made.parameters()).grad


def cases(n: int, heads: int, channels: int, peers: bool, growth: bool) -> Case:
    solvers = {"metaniche": ours}
    if peers:
        solvers |= {name: partial(geometric, layer=name) for name in ("TransformerConv", "GATv2Conv")}
    name = f"{n:,} cells x {K} x {heads} x {channels}"
    make = partial(layer_inputs, n, heads, channels)
    return Case(name, make, solvers, rounds=5 if peers else 3, growth="attention 4 x 16" if growth else None, size=n)


CASES = [
    cases(10_000, 4, 16, True, True),
    cases(100_000, 4, 16, True, True),
    cases(1_000_000, 4, 16, False, True),
    cases(100_000, 4, 64, True, False),
]
