"""One attention layer, forward and backward, projections counted: 15 neighbours per cell, cells along a Hilbert curve."""

from functools import partial

from bench_neighbors import K, tissue
from harness import Case, Target


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

    from metaniche.nn.query_key_value import QueryKeyValue
    from metaniche.ops import edge_attention

    project = QueryKeyValue(given["width"], given["heads"])
    bias = given["bias"].clone().requires_grad_()
    null = torch.zeros(given["heads"], requires_grad=True)
    out = edge_attention(*project(given["x"]), given["indptr"], given["indices"], bias, null)
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


def case(n: int, heads: int, channels: int, peers: bool = True, targets: tuple[Target, ...] = ()) -> Case:
    solvers = {"metaniche": ours}
    if peers:
        solvers |= {name: partial(geometric, layer=name) for name in ("TransformerConv", "GATv2Conv")}
    name = f"{n:,} cells x {K} x {heads} x {channels}"
    make = partial(layer_inputs, n, heads, channels)
    growth = "attention 4 x 16" if channels == 16 else None
    return Case(name, make, solvers, 5 if n < 100_000 else 3, growth, n, targets=targets)


AGAINST = "TransformerConv"
CASES = [
    case(10_000, 4, 16),
    case(100_000, 4, 16),
    case(1_000_000, 4, 16, False, (Target("metaniche", "extra_mb", 4000),)),
    case(100_000, 4, 64, True, (Target(AGAINST, "slower", 15), Target(AGAINST, "larger", 10))),
]
