import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import sparse

from metaniche.errors import InputError
from metaniche.io import matrices
from metaniche.io.matrices import (
    TARGET_COUNTS,
    all_finite,
    check_compressed,
    check_matrix,
    has_negative,
    log_normalised,
)

COUNTS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 50).map(float))
FORMS = (np.asarray, sparse.csr_matrix, sparse.csc_array, lambda x: x.astype(np.int64), np.asfortranarray)


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.sampled_from(FORMS), st.sampled_from([1, 3, 1 << 22]))
def test_counts_pass_in_every_form_and_block_size(x, form, block):
    x[0, 0] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrices, "BLOCK", block)
        check_matrix(form(x), where="s", key="X", feature_kind="counts")


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.data(), st.sampled_from(FORMS[:3]), st.sampled_from([np.nan, np.inf, -1.0, 0.5]))
def test_one_bad_value_anywhere_is_found(x, data, form, bad):
    x[data.draw(st.integers(0, len(x) - 1)), data.draw(st.integers(0, x.shape[1] - 1))] = bad
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrices, "BLOCK", 4)
        with pytest.raises(InputError, match="expected X to"):
            check_matrix(form(x), where="s", key="X", feature_kind="counts")


def test_intensities_may_be_fractions_and_negative():
    x = np.array([[-0.5, 1.25]], np.float32)
    check_matrix(x, where="s", key="X", feature_kind="intensity")
    assert has_negative(x)
    assert has_negative(sparse.csr_matrix(x))
    assert not has_negative(np.abs(x))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_none_hides_no_negative_one(bad):
    x = np.array([[bad, -1.0]], np.float32)
    for form in (np.asarray, sparse.csr_matrix):
        assert has_negative(form(x))
        assert not has_negative(form(x[:, :1]))
        assert not all_finite(form(x))
        assert all_finite(form(x[:, 1:]))


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_compressed_matrix_passes_until_one_index_leaves_its_range(form, data):
    matrix = form(np.arange(1.0, 13.0).reshape(3, 4))
    check_compressed(matrix, where="s", key="X")
    name = data.draw(st.sampled_from(["indices", "indptr"]))
    array = getattr(matrix, name)
    array[data.draw(st.integers(0, len(array) - 1))] = data.draw(st.sampled_from([-1, 13, 2**31 - 1]))
    with pytest.raises(InputError, match=f"valid {matrix.format.upper()} matrix"):
        check_compressed(matrix, where="s", key="X")


def test_another_sparse_format_is_named():
    with pytest.raises(InputError, match="X as CSR, CSC or dense, found COO"):
        check_matrix(sparse.coo_matrix(np.eye(3)), where="s", key="X", feature_kind="counts")


@settings(max_examples=30, deadline=None)
@given(COUNTS)
def test_every_cell_has_the_same_total_before_the_logarithm(counts):
    dense, there = log_normalised(counts), log_normalised(sparse.csr_array(counts))
    np.testing.assert_allclose(there.toarray(), dense, rtol=1e-6)
    filled = counts.sum(1) > 0
    np.testing.assert_allclose(np.expm1(dense.astype(np.float64)).sum(1)[filled], TARGET_COUNTS, rtol=1e-4)
    assert (dense[~filled] == 0).all()
