"""Sums and softmax over the rows of a CSR, forward and backward: 15 entries a row, 16 wide (sum) or 4 heads (softmax)."""

from collections.abc import Callable
from functools import partial

from bench_neighbors import K
from harness import Case

WIDTH = {"sum": 16, "softmax": 4}


def inputs(n: int, width: int) -> dict:
    import torch

    torch.manual_seed(0)
    return {
        "x": torch.randn(n * K, width),
        "indptr": torch.arange(n + 1) * K,
        "row": torch.arange(n).repeat_interleave(K),
    }


def learned(given: dict, reduce: Callable) -> object:
    """The gradient after forward and backward; the slope is not constant, since softmax has none then."""
    x = given["x"].requires_grad_()
    x.grad = None
    out = reduce(x)
    out.backward(out.detach())
    return x.grad


def ours(given: dict, how: str) -> object:
    from metaniche import ops

    return learned(given, lambda x: getattr(ops, f"segment_{how}")(x, given["indptr"]))


def geometric(given: dict, how: str) -> object:
    """`scatter` and `softmax` of torch-geometric, by the index of each entry's row."""
    from torch_geometric import utils

    n = len(given["indptr"]) - 1
    if how == "sum":
        return learned(given, lambda x: utils.scatter(x, given["row"], dim_size=n))
    return learned(given, lambda x: utils.softmax(x, given["row"], num_nodes=n))


def segment_reduce(given: dict) -> object:
    import torch

    return learned(given, lambda x: torch.segment_reduce(x, "sum", offsets=given["indptr"]))


def case(how: str, n: int) -> Case:
    solvers = {"metaniche": partial(ours, how=how), "torch-geometric": partial(geometric, how=how)}
    if how == "sum":
        solvers["torch.segment_reduce"] = segment_reduce
    return Case(f"{how}, {n:,} rows", partial(inputs, n, WIDTH[how]), solvers, growth=f"segment {how}", size=n)


CASES = [case(how, n) for how in WIDTH for n in (10_000, 100_000, 1_000_000)]
