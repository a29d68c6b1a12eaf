import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from metaniche.errors import InputError
from metaniche.signaling import Resource
from metaniche.signaling.expression import pair_expression

PAIRS = pd.DataFrame({"ligand": ["A", "A", "C_D", "X"], "receptor": ["B", "C_B", "B", "B"]})
RESOURCE = Resource(PAIRS, "invented")
GENES = ["B", "unused", "A", "D", "C"]
X = np.array([[1, 9, 2, 0, 3], [4, 9, 0, 5, 2], [0, 9, 1, 1, 1]], dtype=np.float32)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_sides_of_the_measured_pairs(make):
    found = pair_expression(make(X), GENES, RESOURCE)
    assert list(found.pairs["ligand"]) == ["A", "A", "C_D"]  # X is not measured
    ligand = found.ligand_NL.to_dense()[:, found.lig_P.long()].numpy()
    receptor = found.receptor_NR.to_dense()[:, found.rec_P.long()].numpy()
    b, a, d, c = X[:, 0], X[:, 2], X[:, 3], X[:, 4]
    np.testing.assert_array_equal(ligand, np.stack([a, a, np.minimum(c, d)], 1))
    np.testing.assert_array_equal(receptor, np.stack([b, np.minimum(c, b), b], 1))


def test_geometric_mean_of_subunits():
    found = pair_expression(X, GENES, RESOURCE, "geometric_mean")
    ligand = found.ligand_NL.to_dense()[:, int(found.lig_P[2])]
    np.testing.assert_allclose(ligand, np.sqrt(X[:, 3] * X[:, 4]), rtol=1e-6)


def test_pairs_are_selected_and_sides_stay():
    found = pair_expression(X, GENES, RESOURCE).select(np.array([False, True, True]))
    assert list(found.pairs["receptor"]) == ["C_B", "B"]
    assert found.lig_P.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("x", "genes", "words"),
    [
        (-X, GENES, "z-scores"),
        (np.where(X == 9, np.nan, X), GENES, "finite"),
        (np.where(X == 5, np.inf, X), GENES, "finite"),
        (X, GENES[:-1], "a name for each of 5 columns"),
        (X, ["B", "B", "A", "D", "C"], "1 repeated"),
        (X, ["b", "unused", "a", "d", "c"], "found none"),
    ],
)
def test_what_gives_no_signal_is_refused(x, genes, words):
    with pytest.raises(InputError, match=words):
        pair_expression(x, genes, RESOURCE)
