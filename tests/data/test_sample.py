from dataclasses import replace

import numpy as np
import pandas as pd
from tissue import TYPES, make_sample

from metaniche.data.sample import types_in


def test_it_says_what_its_cells_are():
    sample = make_sample("s", "p")
    assert sample.n_cells == 80
    assert tuple(sample.cell_types.categories) == TYPES
    assert np.array_equal(sample.is_malignant, np.asarray(sample.cell_types) == "malignant")
    assert replace(sample, cells=sample.cells.drop(columns="cell_type")).cell_types is None


def test_some_cells_are_a_sample_with_the_edges_between_them():
    sample, cells = make_sample("s", "p"), np.array([2, 5, 6, 70])
    part = sample.take(cells)
    part.graph.validate()
    assert part.n_cells == 4
    assert np.array_equal(part.x, sample.x[cells])
    assert part.cells.index.tolist() == sample.cells.index[cells].tolist()
    assert np.array_equal(part.file_order, sample.file_order[cells])


def test_types_that_occur_are_those_of_cells_and_not_of_categories():
    sample = make_sample("s", "p")
    one = replace(sample, cells=sample.cells.assign(cell_type=pd.Categorical([TYPES[1]] * 80, TYPES)))
    bare = replace(sample, cells=sample.cells.drop(columns="cell_type"))
    assert types_in([bare]) == ()
    assert types_in([one, bare]) == (TYPES[1],)
    assert types_in([one, sample]) == tuple(sorted(TYPES))
