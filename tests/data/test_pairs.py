import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from thinned import N_CELLS
from thinned import tissue as drawn_tissue
from tissue import make_sample

from metaniche.data.pairs import PairFeatures
from metaniche.errors import ConfigError, InputError
from metaniche.signaling import Resource

GENES = ("CXCL12", "CXCR4", "ITGA1", "ITGB1", "COL1A1")
TABLE = pd.DataFrame(
    {
        "ligand": ["CXCL12", "COL1A1", "CXCL12", "TGFB1"],
        "receptor": ["CXCR4", "ITGA1_ITGB1", "ITGB1", "TGFBR1"],
        "signaling_type": ["secreted", "ecm", None, "secreted"],
    }
)
RESOURCE = Resource(TABLE, "made up")


def sample(name="s", patient="p", seed=0, **changes):
    return replace(make_sample(name, patient, seed=seed, markers=GENES), **changes)


def test_pairs_are_those_that_every_sample_measures():
    pairs = PairFeatures.fit([sample(), sample("t", "q", 1)], RESOURCE)
    assert pairs.pairs["receptor"].tolist() == ["CXCR4", "ITGA1_ITGB1", "ITGB1"]
    assert pairs.pairs["signaling_type"].tolist() == ["secreted", "ecm", "unknown"]
    small = sample("t", "q", x=sample().x[:, :2], features=GENES[:2])
    assert PairFeatures.fit([sample(), small], RESOURCE).n_pairs == 1


def test_neighbours_that_a_draw_stands_for_are_among_those_of_a_cell():
    """Scales of pairs do not depend on how many neighbours are kept."""
    near, drawn = (
        replace(
            sample(x=np.ones((N_CELLS, 5), np.float32)),
            graph=drawn_tissue(most),
            cells=pd.DataFrame(index=range(N_CELLS)),
        )
        for most in (None, 6)
    )
    whole, thinned = (PairFeatures.fit([each], RESOURCE) for each in (near, drawn))
    assert whole.degree[1] > 300
    np.testing.assert_allclose(thinned.degree, whole.degree, rtol=1e-5)
    np.testing.assert_allclose(thinned.columns()["scale"], whole.columns()["scale"], rtol=1e-5)


def test_columns_lead_from_pairs_to_expression():
    tissue = sample()
    pairs = PairFeatures.fit([tissue], RESOURCE)
    x, columns = pairs.transform(tissue), pairs.columns()
    weakest = tissue.x[:, 2:4].min(1)
    k = weakest[weakest > 0].mean()
    np.testing.assert_allclose(x[:, columns["receptor"][1]], weakest / (weakest + k), rtol=1e-5)
    ligand = tissue.x[:, 0]
    np.testing.assert_allclose(x[:, columns["ligand"][0]], ligand / (ligand + ligand.mean()), rtol=1e-5)
    assert columns["family"] == ["secreted", "ecm", "unknown"]
    assert ((x >= 0) & (x < 1)).all()


def test_order_layout_and_library_size_do_not_matter():
    counts = sample(x=np.floor(4 * sample().x), feature_kind="counts")
    pairs = PairFeatures.fit([counts], RESOURCE)
    expected = pairs.transform(counts)
    shuffled = replace(counts, x=counts.x[:, ::-1], features=GENES[::-1])
    deeper = replace(counts, x=sparse.csr_array(counts.x * 3))
    for other in (shuffled, deeper):
        np.testing.assert_allclose(pairs.transform(other), expected, rtol=1e-4)


def test_a_larger_panel_says_the_same_to_the_bit():
    counts = sample(x=np.floor(4 * sample().x), feature_kind="counts")
    pairs = PairFeatures.fit([counts], RESOURCE)
    larger = replace(counts, x=np.tile(counts.x, 2), features=(*GENES, *(f"{g}2" for g in GENES)))
    np.testing.assert_array_equal(pairs.transform(larger), pairs.transform(counts))
    back = PairFeatures.from_state(pairs.state(), pairs.library)
    np.testing.assert_array_equal(back.transform(larger), pairs.transform(counts))
    assert (PairFeatures.from_state(pairs.state()).expression(larger) <= pairs.expression(counts)).all()


def test_every_patient_counts_the_same_in_the_half_saturation():
    one, other = sample("a", "p"), sample("b", "q", 1)
    loud = replace(other, x=other.x * 100)
    once = PairFeatures.fit([one, loud], RESOURCE).half_saturation
    again = PairFeatures.fit([one, loud, replace(loud, sample_id="c"), replace(loud, sample_id="d")], RESOURCE)
    np.testing.assert_allclose(again.half_saturation, once, rtol=1e-5)


def test_what_is_not_measured_says_nothing_and_is_counted():
    pairs = PairFeatures.fit([sample()], RESOURCE)
    part = sample(x=sample().x[:, :3], features=GENES[:3])
    assert pairs.coverage(sample()) == 1
    assert pairs.coverage(part) == pytest.approx(1 / 3)
    assert (pairs.transform(part)[:, pairs.columns()["receptor"][1]] == 0).all()


def test_silent_sides_fall_away_until_none_is_left():
    quiet = sample().x.copy()
    quiet[:, 1] = 0
    assert "CXCR4" not in set(PairFeatures.fit([sample(x=quiet)], RESOURCE).pairs["receptor"])
    with pytest.raises(InputError, match="two sides are expressed"):
        PairFeatures.fit([sample(x=np.zeros_like(quiet))], RESOURCE)


def test_state_goes_through_json():
    pairs = PairFeatures.fit([sample()], RESOURCE)
    back = PairFeatures.from_state(json.loads(json.dumps(pairs.state())))
    np.testing.assert_array_equal(back.transform(sample()), pairs.transform(sample()))
    assert back.provenance["sha256"] == RESOURCE.sha256
    with pytest.raises(ConfigError, match="state of PairFeatures"):
        PairFeatures.from_state({"pairs": {}})


def test_shuffled_pairs_keep_how_often_each_side_occurs_and_no_true_pair():
    genes = tuple("ABCDEFGH")
    table = pd.DataFrame({"ligand": list("AABC"), "receptor": list("EFGH")})
    tissue = sample(x=np.ones((80, 8), np.float32), features=genes)
    pairs = PairFeatures.fit([tissue], Resource(table, "made up"))
    other = pairs.shuffled()
    for side in ("ligand", "receptor"):
        assert sorted(other.pairs[side]) == sorted(pairs.pairs[side])
    true = set(map(tuple, table.to_numpy()))
    assert not true & set(map(tuple, other.pairs[["ligand", "receptor"]].to_numpy()))
