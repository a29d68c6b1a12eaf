from dataclasses import replace

import numpy as np
import pytest

from metaniche.errors import ConfigError
from metaniche.explain.pairs import pair_contributions


def test_contributions_sum_to_the_signals_term_of_every_unit(hearing, small_cohort):
    samples, _, _ = small_cohort
    table = pair_contributions(hearing, samples)
    units = hearing.score(samples).units
    total = table.groupby("unit_id")["contribution"].sum()
    np.testing.assert_allclose(total.reindex(units.index), units["signals"], rtol=1e-3, atol=1e-5)


def test_every_row_names_types_and_a_pair(hearing, small_cohort):
    samples, _, _ = small_cohort
    table = pair_contributions(hearing, samples[:1])
    assert set(table["sender"]) | set(table["receiver"]) <= {"caf", "malignant", "t_cell"}
    known = set(map(tuple, hearing.pairs.pairs[["ligand", "receptor"]].to_numpy()))
    assert set(map(tuple, table[["ligand", "receptor"]].to_numpy())) == known


def test_without_types_signals_are_untyped(hearing, small_cohort):
    sample = small_cohort[0][0]
    bare = replace(sample, cells=sample.cells.drop(columns="cell_type"))
    assert set(pair_contributions(hearing, [bare])["sender"]) == {"untyped"}


def test_a_network_without_pairs_is_refused(hearing, small_cohort):
    deaf = replace(hearing.bundle, pairs=None)
    with pytest.raises(ConfigError, match="hears ligand-receptor pairs"):
        pair_contributions(type(hearing)(deaf), small_cohort[0])
