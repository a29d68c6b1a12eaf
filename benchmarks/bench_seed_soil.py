"""One training step of SeedSoil on a whole sample beside the same network written with torch-geometric's attention.

The peer gives every edge the mass action of each pair as a feature (E x P), as TransformerConv and GATv2Conv take pairs: 60
pairs here, since the consensus' hundreds do not fit into memory so. 20,000 cells, all neighbours within 50 um, width 32, two
heads; an epoch over 40 such samples is 40 steps. The larger case is one sample of a million cells, trained in windows and
predicted whole.
"""

from functools import partial

from harness import Case, Target

N_GENES, N_PAIRS, RADIUS_UM, DENSITY, WIDTH, HEADS = 60, 60, 50.0, 0.003, 32, 2


def batch(n: int):
    """A batch of one sample: random tissue, counts of a few genes, every fourth cell malignant."""
    import numpy as np
    import torch

    from metaniche.data.batch import Bag, Piece
    from metaniche.graph import GraphConfig, build_graph

    rng = np.random.default_rng(0)
    pos = torch.from_numpy((rng.random((n, 2)) * np.sqrt(n / DENSITY)).astype(np.float32))
    graph = build_graph(pos, torch.tensor([0, n]), GraphConfig(radius_um=RADIUS_UM, max_paracrine=None))
    x = torch.from_numpy(rng.normal(size=(n, N_GENES)).astype(np.float32))
    signals = torch.from_numpy((rng.random((n, N_GENES)) * (rng.random((n, N_GENES)) < 0.3)).astype(np.float32))
    malignant = torch.from_numpy(rng.random(n) < 0.25)
    piece = Piece(x, graph, malignant, torch.full((n,), float("nan")), signals, ~malignant)
    return Bag(0, [piece], np.ones(1, np.float32), np.zeros(0, np.float32))


def pairs() -> dict:
    import numpy as np

    rng = np.random.default_rng(1)
    ligand, receptor = (rng.integers(0, N_GENES, N_PAIRS).tolist() for _ in range(2))
    return {"ligand": ligand, "receptor": receptor, "scale": [1.0] * N_PAIRS, "family": ["secreted"] * N_PAIRS}


def network():
    import torch

    from metaniche.models import SeedSoil

    torch.manual_seed(0)
    return SeedSoil(N_GENES, 1, pairs=pairs(), width=WIDTH, heads=HEADS, radius_um=RADIUS_UM)


def whole(n: int) -> dict:
    from metaniche.data.batch import collate

    return {"batch": collate([batch(n)])}


def step(given: dict) -> object:
    import torch

    made = network()
    out = made(*given["batch"].tissue)
    (torch.nn.functional.softplus(-out.bag_logits).mean() + out.penalty).backward()
    return made.embed[0].weight.grad


def geometric(given: dict, layer: str) -> object:
    """Cells embedded, one attention layer over edges with a feature per pair, gated pooling: as SeedSoil, in theirs."""
    import torch
    import torch_geometric.nn as pyg

    of, chosen = given["batch"], pairs()
    receiver, sender = of.graph.receivers(), of.graph.indices.long()
    torch.manual_seed(0)
    mass = of.signals[sender][:, chosen["ligand"]] * of.signals[receiver][:, chosen["receptor"]]
    edge = torch.cat((mass, of.graph.distance_um[:, None] / RADIUS_UM), dim=1)
    embed = torch.nn.Sequential(torch.nn.Linear(N_GENES, WIDTH), torch.nn.GELU(), torch.nn.Linear(WIDTH, WIDTH))
    attend = getattr(pyg, layer)(WIDTH, WIDTH // HEADS, heads=HEADS, edge_dim=N_PAIRS + 1)
    score, gate = torch.nn.Linear(2 * WIDTH, 1), torch.nn.Linear(2 * WIDTH, 1)
    own = embed(of.x)
    h = torch.cat((own, attend(own, torch.stack((sender, receiver)), edge)), dim=1)
    attention = torch.softmax(gate(h).masked_fill(~of.candidates[:, None], float("-inf")), 0)
    torch.nn.functional.softplus(-(attention * score(h)).sum()).backward()
    return embed[0].weight.grad


def windows_and_prediction(given: dict) -> object:
    """An epoch of windows drawn from one large sample, and its prediction whole."""
    import torch

    from metaniche.data.batch import collate
    from metaniche.data.sampling import SamplingConfig, WindowBatches

    made = network()
    optimizer = torch.optim.AdamW(made.parameters())
    batches = WindowBatches([given["bag"]], SamplingConfig(windows=4, window_cells=1000), 0, hops=made.hops)
    for number in range(8):
        out = made(*batches[number].tissue)
        (torch.nn.functional.softplus(-out.bag_logits).mean() + out.penalty).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        return made.eval()(*collate([given["bag"]]).tissue).bag_logits


def large(n: int) -> dict:
    return {"bag": batch(n)}


PEERS = {name: partial(geometric, layer=name) for name in ("TransformerConv", "GATv2Conv")}
LARGE = Case(
    "1,000,000 cells, 8 steps of windows and a prediction", partial(large, 1_000_000),
    {"metaniche": windows_and_prediction}, rounds=3, size=1_000_000, targets=(Target("metaniche", "extra_mb", 16_000),),
)  # fmt: skip
CASES = [
    Case("a step on 20,000 cells, 60 pairs", partial(whole, 20_000), {"metaniche": step, **PEERS}, 5, size=20_000),
    LARGE,
]
