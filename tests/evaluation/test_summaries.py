from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tissue import MARKERS, TYPES, make_sample

from metaniche.errors import InputError
from metaniche.evaluation.summaries import Composition, Density, Neighbourhoods, Pseudobulk, area_mm2, neighbour_mean

BLOCKS = [Composition(), Composition(clr=True), Density(), Pseudobulk(), Neighbourhoods(4), Neighbourhoods(4, False)]


def ids(samples):
    return list(dict.fromkeys(s.patient_id for s in samples))


@pytest.fixture(scope="module")
def samples():
    return [make_sample(f"s{i}", f"p{i // 2}", n_cells=40 + 10 * i, seed=i) for i in range(8)]


def test_samples_of_a_patient_count_alike_whatever_their_size(retype):
    """30 malignant cells of one core and 90 stromal ones of another are half malignant, not a quarter."""
    small, large = make_sample("a", "p", n_cells=30, seed=0), make_sample("b", "p", n_cells=90, seed=1)
    pair = [retype(small, np.full(30, 1)), retype(large, np.zeros(90, int))]
    table = Composition().fit(pair, 0).transform(pair, "patient", ["p"])
    assert table.loc["p", "malignant"] == 0.5
    assert table.loc["p"].sum() == pytest.approx(1.0)
    per_sample = Composition().fit(pair, 0).transform(pair, "sample", ["b", "a"])
    assert list(per_sample["malignant"]) == [0.0, 1.0]


def test_log_ratios_are_centred_and_ordered_as_the_shares(samples):
    plain, clr = (Composition(c).fit(samples, 0).transform(samples, "patient", ids(samples)) for c in (False, True))
    np.testing.assert_allclose(clr.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_array_equal(plain.to_numpy().argsort(1), clr.to_numpy().argsort(1))


def test_a_type_unknown_to_training_adds_no_column_and_cells_without_type_count_for_nothing(samples):
    block = Composition().fit(samples, 0)
    odd = samples[0]
    types = pd.Categorical(["alien", None, "caf", "caf"] * (odd.n_cells // 4))
    odd = replace(odd, cells=odd.cells.assign(cell_type=types))
    row = block.transform([odd], "patient", [odd.patient_id]).iloc[0]
    assert list(row.index) == sorted(TYPES)
    assert row["caf"] == pytest.approx(2 / 3)
    nothing = replace(odd, cells=odd.cells.drop(columns="cell_type"))
    assert block.transform([nothing], "patient", [odd.patient_id]).isna().all(axis=None)
    with pytest.raises(InputError, match="Expected cell types"):
        Composition().fit([nothing], 0)


def test_density_is_cells_per_square_millimetre_of_the_hull(samples):
    pos = torch.tensor([[0, 0], [100, 0], [100, 100], [0, 100], [50, 50.0]])
    sample = make_sample("s", "p", n_cells=5)
    sample = replace(sample, graph=replace(sample.graph, pos_um=pos))
    assert area_mm2(sample) == pytest.approx(0.01)
    row = Density().fit([sample], 0).transform([sample], "patient", ["p"]).iloc[0]
    assert np.expm1(row["all cells"]) == pytest.approx(500)
    assert np.expm1(row[list(sorted(set(sample.cell_types)))]).sum() == pytest.approx(500)
    line = replace(sample, graph=replace(sample.graph, pos_um=pos * torch.tensor([1.0, 0.0])))
    assert np.isnan(area_mm2(line))


def test_pseudobulk_is_log_cpm_of_summed_counts_and_ignores_depth_and_cell_order():
    sample = make_sample("s", "p", kind="counts", seed=1)
    block = Pseudobulk(min_cpm=0).fit([sample, make_sample("t", "q", kind="counts", seed=2)], 0)
    total = sample.x.sum(0).astype(float)
    expected = pd.Series(np.log1p(1e6 * total / total.sum()), MARKERS)
    found = block.transform([sample], "patient", ["p"]).iloc[0]
    np.testing.assert_allclose(found, expected[found.index])
    deeper = replace(sample, x=sparse.csr_array(3 * sample.x[::-1]))
    np.testing.assert_allclose(block.transform([deeper], "patient", ["p"]).iloc[0], found)


def test_a_gene_that_a_sample_does_not_measure_is_missing_and_not_zero():
    train = [make_sample(f"s{i}", f"p{i}", kind="counts", seed=i) for i in range(4)]
    block = Pseudobulk(min_cpm=0).fit(train, 0)
    other = make_sample("o", "o", kind="counts", markers=(*MARKERS[:2], "EXTRA", MARKERS[3]))
    row = block.transform([other], "patient", ["o"]).iloc[0]
    assert row.index[row.isna()].tolist() == [MARKERS[2]]


def test_a_gene_that_only_one_sample_lists_dilutes_nothing():
    train = [make_sample(f"s{i}", f"p{i}", kind="counts", seed=i) for i in range(4)]
    block = Pseudobulk(min_cpm=0).fit(train, 0)
    loud = np.full((train[0].n_cells, 1), 1000.0, np.float32)
    larger = replace(train[0], x=np.hstack([train[0].x, loud]), features=(*train[0].features, "EXTRA"))
    rows = (block.transform([sample], "patient", ["p0"]) for sample in (train[0], larger))
    pd.testing.assert_frame_equal(*rows)
    pd.testing.assert_frame_equal(
        *(
            Pseudobulk(min_cpm=0).fit([first, *train[1:]], 0).transform(train, "patient", ["p0"])
            for first in (train[0], larger)
        )
    )


def test_variable_genes_are_chosen_between_training_patients_only():
    """A gene that differs between test patients and not between training patients is not chosen."""
    train = [make_sample(f"s{i}", f"p{i}", kind="counts", seed=i) for i in range(4)]
    for i, sample in enumerate(train):
        sample.x[:, 2] = 5.0
        sample.x[:, 1] = 1 + 20 * i
    assert Pseudobulk(n_top=1).fit(train, 0).genes == (MARKERS[1],)


@pytest.mark.parametrize("block", BLOCKS, ids=repr)
def test_a_row_does_not_depend_on_the_other_samples_and_keeps_the_asked_order(block, samples):
    fitted = block.fit(samples[:4], 0)
    units = ["p3", "p0", "p2"]
    table = fitted.transform(samples, "patient", units)
    assert list(table.index) == units
    alone = [fitted.transform([s for s in samples if s.patient_id == u], "patient", [u]) for u in units]
    pd.testing.assert_frame_equal(table, pd.concat(alone))
    with pytest.raises(InputError, match=r"found none of 1 .first: p9"):
        fitted.transform(samples, "patient", ["p9"])


@pytest.mark.parametrize("use_types", [True, False])
def test_neighbourhoods_are_shares(samples, use_types):
    table = Neighbourhoods(5, use_types).fit(samples, 0).transform(samples, "patient", ids(samples))
    assert table.shape == (4, 5)
    np.testing.assert_allclose(table.sum(axis=1), 1.0)


def test_more_clusters_than_distinct_windows_is_not_an_error(retype):
    sample = make_sample("s", "p", n_cells=20)
    sample = retype(sample, np.ones(20, int))
    table = Neighbourhoods(10).fit([sample], 0).transform([sample], "patient", ["p"])
    assert table.to_numpy().tolist() == [[1.0]]


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 30), st.integers(0, 10**6), st.booleans())
def test_neighbour_mean_is_that_of_a_dense_matrix(n, seed, include_self):
    graph = make_sample("s", "p", n_cells=n, seed=seed).graph
    x = np.random.default_rng(seed).normal(size=(n, 3))
    dense = np.eye(n) if include_self else np.zeros((n, n))
    dense[graph.receivers().numpy(), graph.indices.numpy()] = 1
    expected = dense @ x / np.maximum(dense.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(neighbour_mean(graph, x, include_self=include_self), expected, atol=1e-12)
