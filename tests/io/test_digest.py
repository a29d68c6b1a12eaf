import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from slide import make_slide

from metaniche.io.digest import sample_digest, table_digest


def test_a_table_is_its_values_names_and_rows():
    table = pd.DataFrame({"a": [1.0, None], "b": ["x", "y"]}, index=["p", "q"])
    other = [table.rename(columns={"a": "c"}), table.iloc[::-1], table.fillna(0), table.rename(index={"p": "r"})]
    assert len({table_digest(t) for t in (table, *other)}) == 5
    assert table_digest(table.copy()) == table_digest(table)


def stored(adata):
    adata.obsp["spatial_connectivities"] = sparse.csr_matrix(np.ones((adata.n_obs, adata.n_obs)))


CHANGES = {
    "a cell": lambda adata: adata.obs.__setitem__("cell_type", "other"),
    "a gene": lambda adata: setattr(adata, "var_names", ["other", *adata.var_names[1:]]),
    "a count": lambda adata: setattr(adata, "X", adata.X * 2),
    "counts": lambda adata: adata.layers.__setitem__("counts", adata.X * 2),
    "a place": lambda adata: adata.obsm.__setitem__("spatial", adata.obsm["spatial"] + 1),
    "neighbours": stored,
    "the unit": lambda adata: adata.uns.__setitem__("metaniche", {"um_per_unit": 0.25}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("layout", [sparse.csr_matrix.toarray, sparse.csr_matrix])
def test_a_sample_is_all_that_it_is_prepared_from(change, layout):
    slide = make_slide(20)
    slide.X = layout(sparse.csr_matrix(slide.X))
    before = sample_digest(slide)
    assert sample_digest(slide.copy()) == before
    change(slide)
    assert sample_digest(slide) != before
