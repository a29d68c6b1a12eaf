"""Times the CUDA ops on a GPU by events: several input sets, medians, bytes over the bound, peak memory, peers."""

from __future__ import annotations

import math
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from metaniche.ops import edge_attention, hilbert_order, knn_neighbors, radius_neighbors, segment_sum

NEIGHBOURS, SETS, ROUNDS = 15, 3, 9
GIB = 2**30
HELD_CYCLES = 4_000_000  # the GPU waits about two milliseconds, in which the launches of a run are lined up
COPY_WORDS = (
    f"Event timing, {ROUNDS} runs over {SETS} input sets after a warm-up. Bound: the fewest bytes (each input read once, each "
    "output written once) at the copy bandwidth of the process that measures, of which one is a row of the table; of "
    "transport the bytes of all its kernel products, of permutations the additions. Small inputs may lie in the cache, which "
    "the bound does not know. The edges by sender and the tiles of attention, which it takes where they pay, are made once a "
    "graph and are not in these times, but for Moran's. Launches are lined up before a run is timed; an op that waits for the "
    "GPU on its way, or ends on the processor (tails of nulls, checks of transport), is timed with that."
)
HEADER = (
    "| op | size | median ms | range | bound ms | of the bound | peak GiB beyond inputs |",
    "|---|---|---:|---|---:|---:|---:|",
)


@dataclass
class Timing:
    """One line of the table; `bound_ms` is the fewest bytes at the copy bandwidth of this GPU."""

    name: str
    size: str
    ms: float
    spread: str
    bound_ms: float
    peak_gib: float

    def row(self) -> str:
        share = f"{100 * self.bound_ms / self.ms:.0f} %" if self.bound_ms else "-"
        bound = f"{self.bound_ms:.3f}" if self.bound_ms else "-"
        return (
            f"| {self.name} | {self.size} | {self.ms:.3f} | {self.spread} | {bound} | {share} | {self.peak_gib:.2f} |"
        )


def copied() -> Timing:
    """A large copy on the device, by which all bounds are counted."""
    source = torch.empty(4 * GIB, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    source.random_()
    for _ in range(200):  # some tenths of a second, so that the clocks are up
        target.copy_(source)
    times = _times(lambda _: target.copy_(source), [None])
    ms = statistics.median(times)
    return Timing("copy", "4 GiB", ms, f"{min(times):.3f}-{max(times):.3f}", ms, 0.0)


def bandwidth(copy: Timing) -> float:
    """Bytes a second, reads and writes counted."""
    return 2 * 4 * GIB / (copy.ms / 1e3)


def slides(n: int = 1_000_000) -> list[torch.Tensor]:
    """Tissues of `n` cells, in Hilbert order as a graph stores them."""
    return [tissue(n, seed) for seed in range(SETS)]


def graphs_of(tissues: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The graph of 15 neighbours of each."""
    ptr = torch.tensor([0, len(tissues[0])], device="cuda")
    return [knn_neighbors(pos, ptr, NEIGHBOURS)[:2] for pos in tissues]


def neighbours(speed: float, tissues: list[torch.Tensor]) -> list[Timing]:
    n = len(tissues[0])
    ptr, radius, size = torch.tensor([0, n], device="cuda"), radius_for(n), f"{n / 1e6:g} M cells"
    least = 8 * n + 8 * NEIGHBOURS * n
    return [
        timed("radius_neighbors", size, lambda p: radius_neighbors(p, ptr, radius), tissues, least, speed),
        timed("knn_neighbors k=15", size, lambda p: knn_neighbors(p, ptr, NEIGHBOURS), tissues, least, speed),
        timed("hilbert_order", size, lambda p: hilbert_order(p, ptr), tissues, 16 * n, speed),
    ]


def sums(speed: float, graphs: list) -> list[Timing]:
    n, edges = graphs[0][0].numel() - 1, graphs[0][1].numel()
    summed = [(torch.randn(edges, 16, device="cuda"), indptr) for indptr, _ in graphs]
    size = f"{edges / 1e6:g} M rows"
    return [timed("segment_sum x 16", size, lambda x: segment_sum(*x), summed, 64 * (edges + n), speed)]


def attentions(speed: float, graphs: list) -> list[Timing]:
    shapes, n = [(4, 16), (4, 64)], graphs[0][0].numel() - 1
    return [
        timing
        for heads, width in shapes
        for dtype in (torch.float32, torch.bfloat16)
        for timing in attention(speed, n, heads, width, dtype, graphs)
    ]


def attention(speed: float, n: int, heads: int, width: int, dtype: torch.dtype, graphs: list) -> list[Timing]:
    sets = [attention_inputs(n, heads, width, dtype, graph) for graph in graphs]
    edges = graphs[0][1].numel()
    cells, per_edge = n * heads * width * dtype.itemsize, 4 * edges * heads
    forward = 4 * cells + per_edge + 4 * edges + 8 * n
    backward = 8 * cells + 2 * per_edge + 4 * edges + 8 * n
    name, size = f"edge_attention {str(dtype).removeprefix('torch.')}", f"{n / 1e6:g} M x {heads} x {width}"

    gradient = torch.randn(n, heads, width, device="cuda", dtype=dtype)

    def infer(inputs):
        with torch.no_grad():
            return edge_attention(*inputs)

    return [
        timed(f"{name} forward", size, infer, sets, forward, speed),
        timed(f"{name} forward + backward", size, partial(attention_step, gradient), sets, forward + backward, speed),
    ]


def attention_inputs(n: int, heads: int, width: int, dtype: torch.dtype, graph: tuple) -> tuple:
    q, k, v = (torch.randn(n, heads, width, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
    indptr, indices = graph
    bias = torch.randn(indices.numel(), heads, device="cuda", requires_grad=True)
    return q, k, v, indptr, indices, bias, torch.zeros(heads, device="cuda", requires_grad=True)


def attention_step(gradient: torch.Tensor, inputs: tuple) -> tuple[torch.Tensor, ...]:
    """Our attention and the gradients of all that has one."""
    return torch.autograd.grad(edge_attention(*inputs), [x for x in inputs if x.requires_grad], gradient)


def geometric(n: int, heads: int, width: int) -> list[Timing]:
    """The same attention as torch-geometric's layers compute it: gather, softmax, scatter."""
    from torch_geometric.utils import scatter, softmax

    ptr = torch.tensor([0, n], device="cuda")
    indptr, indices, _ = knn_neighbors(tissue(n, 0), ptr, NEIGHBOURS)
    rows, senders = torch.arange(n, device="cuda").repeat_interleave(indptr.diff()), indices.long()
    inputs = attention_inputs(n, heads, width, torch.float32, (indptr, indices))

    def run(x):
        q, k, v, _, _, bias, _ = x
        q_i, k_j, v_j = q.index_select(0, rows), k.index_select(0, senders), v.index_select(0, senders)
        weight = softmax((q_i * k_j).sum(-1) / math.sqrt(width) + bias, rows, num_nodes=n)
        out = scatter(v_j * weight[..., None], rows, dim=0, dim_size=n)
        return torch.autograd.grad(out, (q, k, v, bias), gradient)

    size, gradient = f"{n / 1e6:g} M x {heads} x {width}", torch.randn(n, heads, width, device="cuda")
    return [
        timed("torch-geometric gather + softmax + scatter, float32, forward + backward", size, run, [inputs]),
        timed(
            "edge_attention float32 on the same, forward + backward", size, partial(attention_step, gradient), [inputs]
        ),
    ]


def flex(n: int, heads: int, width: int) -> list[Timing]:
    """FlexAttention over the blocks of 128 x 128 that hold an edge, masked by distance; bfloat16, no bias."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    pos, radius, side = tissue(n, 0), radius_for(n), 128
    indptr, indices, _ = radius_neighbors(pos, torch.tensor([0, n], device="cuda"), radius)
    rows = torch.arange(n, device="cuda").repeat_interleave(indptr.diff())
    blocks = n // side
    pairs = torch.unique(rows // side * blocks + indices // side)
    counts = torch.bincount(pairs // blocks, minlength=blocks)
    ordered = torch.zeros(blocks, blocks, dtype=torch.int32, device="cuda")
    place = torch.arange(pairs.numel(), device="cuda") - (counts.cumsum(0) - counts)[pairs // blocks]
    ordered[pairs // blocks, place] = (pairs % blocks).int()

    def near(b, h, q, k):
        return (pos[q, 0] - pos[k, 0]) ** 2 + (pos[q, 1] - pos[k, 1]) ** 2 <= radius**2

    mask = BlockMask.from_kv_blocks(counts.int()[None, None], ordered[None, None], BLOCK_SIZE=side, mask_mod=near)
    q, k, v = (
        torch.randn(1, heads, n, width, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    )
    compiled = torch.compile(flex_attention, dynamic=False)

    gradient, size = torch.randn_like(q), f"{n / 1e6:.3g} M x {heads} x {width}"

    def run(_):
        return torch.autograd.grad(compiled(q, k, v, block_mask=mask), (q, k, v), gradient)

    given = attention_inputs(n, heads, width, torch.bfloat16, (indptr, indices))

    ours = partial(attention_step, gradient[0].movedim(0, 1))
    name = "FlexAttention by distance (no bias, no null slot, the cell itself counted), bfloat16, forward + backward"
    return [
        timed(name, size, run, [None]),
        timed("edge_attention bfloat16 on the same neighbours, forward + backward", size, ours, [given]),
    ]


def of_nvidia_smi(query: str, units: bool = True) -> str:
    """What nvidia-smi answers of torch's GPU; nothing where it cannot."""
    form = "csv,noheader" if units else "csv,noheader,nounits"
    command = ["nvidia-smi", f"--id={torch.cuda.current_device()}", f"--query-gpu={query}", f"--format={form}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def tissue(n: int, seed: int) -> torch.Tensor:
    """Cells at random in a square of unit density, in Hilbert order."""
    generator = torch.Generator(device="cuda").manual_seed(seed)
    pos = torch.rand(n, 2, device="cuda", generator=generator) * math.sqrt(n)
    return pos[hilbert_order(pos, torch.tensor([0, n], device="cuda"))].contiguous()


def radius_for(n: int) -> float:
    """So that a cell has 15 neighbours at unit density."""
    return math.sqrt(NEIGHBOURS / math.pi)


def timed(name: str, size: str, run: Callable, sets: list, n_bytes: float = 0, speed: float = 1) -> Timing:
    run(sets[0])
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run(sets[0])
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / GIB
    times = _times(run, sets)
    spread = f"{min(times):.3f}-{max(times):.3f}"
    return Timing(name, size, statistics.median(times), spread, 1e3 * n_bytes / speed, peak)


def _times(run: Callable, sets: list) -> list[float]:
    """Milliseconds of ROUNDS runs after one for each input set; the sets take turns."""
    for inputs in sets:
        run(inputs)
    times = []
    for i in range(ROUNDS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(HELD_CYCLES)
        start.record()
        run(sets[i % len(sets)])
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return times
