import numpy as np
import torch
from tissue import make_sample

from metaniche.evaluation.tissue_controls import random_edges, shuffled_coordinates

SAMPLE = make_sample("s", "p", n_cells=120)


def test_shuffled_coordinates_move_whole_cells_and_leave_places_alone():
    shuffled = shuffled_coordinates(SAMPLE)
    assert shuffled.graph is SAMPLE.graph
    assert sorted(shuffled.cells.index) == sorted(SAMPLE.cells.index)
    assert (shuffled.cells.index != SAMPLE.cells.index).mean() > 0.9
    back = SAMPLE.cells.index.get_indexer(shuffled.cells.index)
    np.testing.assert_array_equal(shuffled.x, SAMPLE.x[back])
    assert (shuffled.cells["cell_type"] == SAMPLE.cells["cell_type"].loc[shuffled.cells.index]).all()
    np.testing.assert_array_equal(shuffled.file_order, SAMPLE.file_order[back])


def test_random_edges_keep_degrees_and_distances():
    graph = random_edges(SAMPLE).graph.validate()
    assert torch.equal(graph.indptr, SAMPLE.graph.indptr)
    assert torch.equal(graph.distance_um, SAMPLE.graph.distance_um)
    step = graph.pos_um[graph.indices.long()] - graph.pos_um[graph.receivers()]
    assert step.norm(dim=1).mean() > 1.5 * graph.distance_um.mean()


def test_controls_are_the_same_every_time():
    assert torch.equal(random_edges(SAMPLE).graph.indices, random_edges(SAMPLE).graph.indices)
    assert shuffled_coordinates(SAMPLE).cells.index.equals(shuffled_coordinates(SAMPLE).cells.index)
