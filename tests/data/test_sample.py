from dataclasses import replace

import numpy as np
from tissue import TYPES, make_sample


def test_it_says_what_its_cells_are():
    sample = make_sample("s", "p")
    assert sample.n_cells == 80
    assert tuple(sample.cell_types.categories) == TYPES
    assert np.array_equal(sample.is_malignant, np.asarray(sample.cell_types) == "malignant")
    assert replace(sample, cells=sample.cells.drop(columns="cell_type")).cell_types is None
