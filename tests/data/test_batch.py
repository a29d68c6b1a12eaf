import numpy as np
import torch
from tissue import make_sample

from metaniche.data.batch import Bag, Piece, collate


def piece(n, seed):
    graph = make_sample("s", "p", n_cells=n, seed=seed).graph
    mask = torch.ones(n, dtype=torch.bool)
    return Piece(torch.randn(n, 3), graph, mask, torch.full((n,), torch.nan), torch.rand(n, 2), mask)


def test_bags_are_stacked_in_order_and_stay_apart():
    bags = [
        Bag(4, [piece(30, 0), piece(20, 1)], np.array([1.0]), np.array([0.5])),
        Bag(2, [piece(25, 2)], np.array([0.0]), np.array([0.1])),
    ]
    batch = collate(bags)
    assert batch.bag_ptr.tolist() == [0, 50, 75]
    assert batch.graph.sample_ptr.tolist() == [0, 30, 50, 75]
    assert batch.index.tolist() == [4, 2]
    assert torch.equal(batch.x[30:50], bags[0].pieces[1].x)
    batch.graph.validate()


def test_to_moves_everything():
    batch = collate([Bag(0, [piece(10, 0)], np.zeros(1), np.zeros(0))]).to("meta")
    assert batch.x.is_meta
    assert batch.graph.indices.is_meta
