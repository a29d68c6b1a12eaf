from dataclasses import replace

import numpy as np
import pytest
from tissue import make_sample

from metaniche.errors import ConfigError, InputError
from metaniche.evaluation.cell_summaries import CellSummary
from metaniche.evaluation.summaries import neighbour_mean


@pytest.fixture(scope="module")
def samples():
    return [make_sample(f"s{i}", f"p{i}", n_cells=30, seed=i) for i in range(4)]


def test_own_and_neighbour_columns_stand_side_by_side(samples):
    units = ["s3:c4", "s1:c0", "s3:c2"]
    both = CellSummary(True, True).fit(samples[:2], 0).transform(samples, "cell", units)
    own = CellSummary(True, False).fit(samples[:2], 0).transform(samples, "cell", units)
    near = CellSummary(False, True).fit(samples[:2], 0).transform(samples, "cell", units)
    assert list(both.index) == units
    np.testing.assert_allclose(both, np.concatenate([own, near], axis=1))
    assert list(both.columns) == [*own.columns, *near.columns]
    block = CellSummary(False, True).fit(samples[:2], 0)
    expected = neighbour_mean(samples[3].graph, block.features.transform(samples[3]), include_self=False)
    np.testing.assert_allclose(near.loc["s3:c4"], expected[4])


def test_fitting_does_not_see_test_samples(samples):
    block = CellSummary()
    one = block.fit(samples[:3], 0).transform(samples[3:], "cell", ["s3:c0"])
    changed = replace(samples[3], x=samples[3].x * 50)
    block.fit(samples[:3], 0).transform([changed], "cell", ["s3:c0"])
    np.testing.assert_array_equal(block.transform(samples[3:], "cell", ["s3:c0"]), one)


def test_unknown_cells_and_empty_configurations_are_refused(samples):
    with pytest.raises(InputError, match="s0:zz"):
        CellSummary().fit(samples, 0).transform(samples, "cell", ["s0:c1", "s0:zz"])
    with pytest.raises(ConfigError, match="own=True"):
        CellSummary(own=False, neighbours=False)
