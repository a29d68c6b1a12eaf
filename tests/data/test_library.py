from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tissue import make_sample

from metaniche.data.library import Library

GENES = tuple("ABCDEFGH")


def sample(number=0, genes=GENES, patient=None):
    """Counts of 8 genes, of which the first are rare; of them those in `genes`."""
    whole = make_sample(f"s{number}", patient or f"p{number}", seed=number, kind="counts", markers=GENES)
    x = np.random.default_rng(number).poisson(np.arange(1, 9), whole.x.shape).astype(np.float32)
    keep = [GENES.index(g) for g in genes]
    return replace(whole, x=x[:, keep], features=tuple(genes))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)), st.integers(0, 30))
def test_genes_beyond_the_panel_and_their_order_do_not_count(order, n_more):
    library, own = Library.fit([sample(0), sample(1)]), sample(2)
    more = np.random.default_rng(n_more).poisson(5, (own.n_cells, n_more)).astype(np.float32)
    x = np.concatenate([own.x[:, order], more], axis=1)
    names = [*(GENES[i] for i in order), *(f"X{i}" for i in range(n_more))]
    for layout in (np.asarray, sparse.csr_array):
        np.testing.assert_array_equal(library.sizes(layout(x), names), own.x.sum(axis=1))


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 7), min_size=1))
def test_what_is_missing_is_made_up_for_by_its_expected_share(kept):
    library, own = Library.fit([sample(i) for i in range(4)]), sample(9)
    kept = sorted(kept)
    sizes = library.sizes(own.x[:, kept], [GENES[i] for i in kept])
    assert sizes.mean() == pytest.approx(own.x.sum(axis=1).mean(), rel=0.25)
    np.testing.assert_allclose(sizes, own.x[:, kept].sum(axis=1) / library.share[kept].sum(), rtol=1e-5)


def test_the_panel_is_what_all_measure_and_every_patient_counts_the_same():
    library = Library.fit([sample(0), sample(1, "HGFEDCB")])
    assert library.genes == tuple("BCDEFGH")
    assert library.share.sum() == pytest.approx(1)
    assert (np.diff(library.share) > 0).all()
    again = Library.fit([sample(0), sample(1, "HGFEDCB"), sample(1, "HGFEDCB")])
    np.testing.assert_allclose(library.share, again.share, rtol=1e-6)


def test_nothing_in_common_and_nothing_of_the_panel_are_no_error():
    assert Library.fit([sample(0, "AB"), sample(1, "CD")]).genes == ()
    library = Library.fit([sample(0, "AB")])
    assert (library.sizes(sample(1, "CD").x, "CD") == 0).all()
    assert (library.sizes(sample(1).x[:, :0], ()) == 0).all()


def test_the_part_of_a_library_that_is_measured_is_that_of_training():
    library = Library.fit([sample(i) for i in range(4)])
    assert library.share_of(GENES) == 1
    assert library.share_of("XYZ") == 0
    assert library.share_of("AB") + library.share_of("CDEFGH") == pytest.approx(1)
    assert library.share_of("AB") < 0.2  # the rare ones
