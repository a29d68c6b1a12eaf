"""Attention by rows and by tiles on a GPU: whether they agree with the CPU, and their times side by side."""

from __future__ import annotations

from functools import partial

import gpu_bench
import torch

from metaniche import ops
from metaniche.ops.backend import use_backend
from metaniche.ops.cuda import edge_attention as kernels
from metaniche.ops.cuda.edge_attention_tiles import both_tilings, tiling

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
NAMES = ("out", "q", "k", "v", "bias", "null")
DROPOUT, SEED = 0.2, 2**60 + 1


def compare(n: int, device: str = "cuda", shapes: tuple = ((4, 16), (4, 64), (8, 64))) -> list[str]:
    """What differs of both ways, with dropout and without, from the best CPU backend at hand on fresh random inputs."""
    failures, ptr = [], torch.tensor([0, n])
    with use_backend("auto"):
        pos = torch.rand(n, 2) * n**0.5
        indptr, indices, _ = ops.radius_neighbors(pos[ops.hilbert_order(pos, ptr)], ptr, gpu_bench.radius_for(n))
    graph = indptr.to(device), indices.to(device)
    ways = {"rows": (None, None), "tiles": both_tilings(*graph)}
    for heads, width in shapes:
        for dtype, limit in LIMITS.items():
            q, k, v, grad = (torch.randn(n, heads, width).to(dtype) for _ in range(4))
            bias, null = torch.randn(indices.numel(), heads), torch.randn(heads)
            for dropout in (0.0, DROPOUT):
                expected = on_cpu(q, k, v, indptr, indices, bias, null, grad, dropout)
                given = *(x.to(device) for x in (q, k, v)), *graph, bias.to(device), null.to(device)
                for way, tiles in ways.items():
                    out, lse = kernels.forward(*given, dropout, SEED, tiles[0])
                    grads = kernels.backward(grad.to(device), *given, out, lse, dropout, SEED, *tiles)
                    for name, own, other in zip(NAMES, (out, *grads), expected):
                        error = float((own.cpu().double() - other).norm() / other.norm())
                        if not error < limit:
                            what = f"{heads} x {width} {dtype}, dropout {dropout}, {name}"
                            failures.append(f"edge_attention by {way}, {what}: relative error {error:.1e}")
    return failures


def on_cpu(q, k, v, indptr, indices, bias, null, grad, dropout: float) -> list[torch.Tensor]:
    """Output and gradients on the CPU in float64."""
    floats = [x.double().requires_grad_() for x in (q, k, v, bias, null)]
    with use_backend("auto"):
        out = ops.edge_attention(*floats[:3], indptr, indices, *floats[3:], dropout=dropout, seed=SEED)
        return [out.detach(), *torch.autograd.grad(out, floats, grad.double())]


def timings(speed: float, graphs: list) -> list[gpu_bench.Timing]:
    """Both ways on graphs in Hilbert order, and the making of the tiles."""
    n = graphs[0][0].numel() - 1
    tiles = [both_tilings(*graph) for graph in graphs]
    edges, senders = graphs[0][1].numel(), tiles[0][0].columns.numel()
    # Read: rows and columns. Written: the tiles' columns, and a byte an edge.
    least = 8 * n + 4 * edges + 4 * senders + edges
    size = f"{n / 1e6:g} M cells, reuse {edges / senders:.1f}"
    found = [gpu_bench.timed("tiles of a graph, once", size, lambda graph: tiling(*graph), graphs, least, speed)]
    for heads, width in ((4, 16), (4, 64)):
        for dtype in LIMITS:
            found += both_ways(speed, n, heads, width, dtype, graphs, tiles)
    return found


def both_ways(speed: float, n: int, heads: int, width: int, dtype: torch.dtype, graphs: list, tiles: list) -> list:
    """Forward, and backward without the sort of the edges by sender; bounds as in `gpu_bench.attention`."""
    cells, edges = n * heads * width * dtype.itemsize, graphs[0][1].numel()
    forward = 4 * cells + 4 * edges * heads + 4 * edges + 8 * n
    backward = 8 * cells + 8 * edges * heads + 4 * edges + 8 * n
    size, found = f"{n / 1e6:g} M x {heads} x {width}", []
    for way, dropout in (("rows", 0.0), ("tiles", 0.0), ("tiles", DROPOUT)):
        sets = []
        for graph, made in zip(graphs, tiles):
            given = [x.detach() for x in gpu_bench.attention_inputs(n, heads, width, dtype, graph)]
            how = dropout, SEED, *(made if way == "tiles" else (None, None))
            out, lse = kernels.forward(*given, *how[:3])
            sets.append(((*given, *how[:3]), (torch.randn_like(out), *given, out, lse, *how)))
        name = f"attention by {way}, {str(dtype).removeprefix('torch.')}{', dropout' if dropout else ''}"
        time = partial(gpu_bench.timed, size=size, sets=sets, speed=speed)
        found += [
            time(f"{name}, forward", run=lambda x: kernels.forward(*x[0]), n_bytes=forward),
            time(f"{name}, backward", run=lambda x: kernels.backward(*x[1]), n_bytes=backward),
        ]
    return found
