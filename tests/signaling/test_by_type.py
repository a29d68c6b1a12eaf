import numpy as np
import pandas as pd
import torch

from metaniche.signaling.by_type import Groups, sums_by_type, sums_within_types, type_codes, within_cells
from metaniche.signaling.csr import map_values, to_torch

TYPES = torch.tensor([0, 2, 2, 0, 0, 2, 0, 2, 2], dtype=torch.int32)


def test_types_that_no_cell_has_get_no_number_and_cells_without_one_the_last():
    cells = pd.Categorical(["b", None, "c", "b"], categories=["a", "b", "c"])
    names, codes, n = type_codes(cells)
    assert (names, codes.tolist(), n) == (["b", "c"], [0, 2, 1, 0], 3)
    assert type_codes(cells[[0, 2]]).n == 2


def test_sums_by_type_are_those_of_the_dense_table():
    x = np.random.default_rng(1).poisson(0.7, (9, 4)).astype(np.float32)
    sparse_x = to_torch(x)
    found = sums_by_type(map_values(sparse_x, sparse_x.values() ** 2), TYPES, 3)
    expected = np.stack([(x[TYPES.numpy() == t] ** 2).sum(0) for t in range(3)])
    np.testing.assert_array_equal(found, expected)


def test_pairs_within_cells_are_products_of_their_own_sides():
    ligand, receptor = np.random.default_rng(2).poisson(0.9, (2, 9, 4)).astype(np.float32)
    lig, rec = torch.tensor([0, 3, 1], dtype=torch.int32), torch.tensor([2, 2, 0], dtype=torch.int32)
    found = sums_within_types(within_cells(to_torch(ligand), to_torch(receptor), lig, rec), TYPES, 3)
    own = ligand[:, lig] * receptor[:, rec]
    np.testing.assert_array_equal(found, [own[TYPES.numpy() == t].sum(0) for t in range(3)])


def test_groups_sum_rows_of_any_width_in_float64():
    values = torch.rand(9, 5)
    groups = Groups.of(TYPES, 4)
    expected = torch.stack([values[t == TYPES].double().sum(0) for t in range(4)])
    torch.testing.assert_close(groups.sums(values), expected)
    torch.testing.assert_close(groups.sums(values[:, 0]), expected[:, 0])
