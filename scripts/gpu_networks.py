"""Whole networks on a GPU: what they say and learn against the same on the CPU, with algorithms of one order only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from metaniche.graph import GraphConfig, build_graph
from metaniche.ops.backend import use_backend

FEATURES, OUTPUTS, CLINICAL, GENES = 12, 3, 2, 24
LIMIT = 1e-3  # float32 in another order, through several layers
SMALL = 1e-3  # of the largest norm: what is smaller is measured by it
FAMILIES = ("contact", "secreted", "ecm", "secreted")


def compare(n: int, device: str = "cuda") -> list[str]:
    """What differs, or fails, of every architecture on tissue of `n` cells in two bags; networks need torch-geometric."""
    from metaniche.models import ARCHITECTURES

    failures = []
    with use_backend("auto"):
        tissue = random_tissue(n)
    for name, options in variants(ARCHITECTURES):
        torch.manual_seed(1)
        what = f"{name}{' of pairs' if options else ''}"
        try:
            network = ARCHITECTURES[name](FEATURES, OUTPUTS, CLINICAL, width=32, **options).eval()
            with use_backend("auto"):
                expected = said_and_learned(network, tissue)
            there = network.to(device), [part.to(device) for part in tissue]
            found = with_one_order(lambda there=there: said_and_learned(*there))
        except Exception as error:
            failures.append(f"{what}: {type(error).__name__}: {str(error)[:300]}")
            continue
        least = SMALL * max(float(x.norm()) for x in expected.values())  # some gradients are 0, but for their digits
        for key, own in found.items():
            error = float((own.cpu() - expected[key]).norm() / expected[key].norm().clamp(min=least))
            if not error < LIMIT:
                failures.append(f"{what}, {key}: relative error {error:.1e}")
    return failures


def random_tissue(n: int) -> list:
    """x, graph, bags, candidates, clinical variables, signals and surroundings, as a network is called with them."""
    pos, apart = torch.rand(n, 2) * 10 * n**0.5, torch.rand(n) < 0.6
    graph = build_graph(pos, torch.tensor([0, n]), GraphConfig())
    signals = torch.rand(n, GENES) * (torch.rand(n, GENES) < 0.5)
    bags, clinical = torch.tensor([0, n // 3, n]), torch.randn(2, CLINICAL)
    return [torch.randn(n, FEATURES), graph, bags, ~apart, clinical, signals, apart]


def variants(architectures: dict) -> Iterator[tuple[str, dict]]:
    """Every architecture, and with pairs to hear those that can."""
    half, scale = GENES // 2, [1.0] * len(FAMILIES)
    pairs = {"ligand": [0, 1, 2, 3], "receptor": [half, half + 1, half + 2, half], "scale": scale, "family": FAMILIES}
    for name, kind in architectures.items():
        yield name, {}
        if kind.reads_pairs:
            yield name, {"pairs": pairs}


def said_and_learned(network: torch.nn.Module, tissue: list) -> dict[str, Tensor]:
    """Logits of the bags, and the gradient of every weight that has one."""
    network.zero_grad()
    logits = network(*tissue).bag_logits
    logits.square().sum().backward()
    slopes = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return {"logits": logits.detach()} | slopes


def with_one_order(run: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """`run` with deterministic algorithms alone, which a Trainer asks for; RuntimeError names an op that has none."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        return run()
    finally:
        torch.use_deterministic_algorithms(before)
