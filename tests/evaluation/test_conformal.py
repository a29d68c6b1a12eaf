import numpy as np
import pandas as pd
import pytest

from metaniche.evaluation.conformal import coverage_table, cross_conformal
from metaniche.metrics.conformal import conformal_p


def predictions(n=100, seed=0, skill=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    risk = 1 / (1 + np.exp(-(skill * (y - 0.5) + rng.normal(size=n))))
    return pd.DataFrame(
        {"model": "m", "repeat": 0, "fold": np.arange(n) % 5, "unit_id": range(n), "y": y, "risk": risk}
    )


def test_no_unit_is_compared_with_its_own_fold():
    table = predictions()
    judged = cross_conformal(table)
    own, others = table[table["fold"] == 2], table[table["fold"] != 2]
    expected = conformal_p(own["risk"], others["risk"], others["y"])
    np.testing.assert_allclose(judged.loc[own.index, ["p0", "p1"]], expected)
    moved = table.assign(y=table["y"].where(table["fold"] != 2, 1 - table["y"]))
    np.testing.assert_allclose(cross_conformal(moved).loc[own.index, ["p0", "p1"]], expected)


def test_coverage_is_shown_beside_what_was_promised():
    many = pd.concat([predictions(seed=s).assign(repeat=s) for s in range(40)], ignore_index=True)
    table = coverage_table(cross_conformal(many)).set_index("alpha")
    for alpha, row in table.iterrows():
        assert row["nominal"] == pytest.approx(1 - alpha)
        assert row["coverage"] == pytest.approx(1 - alpha, abs=0.03)
    assert table["certain"].iloc[-1] > table["certain"].iloc[0]


def test_folds_without_both_labels_are_left_out():
    table = predictions(10)
    table["y"] = (table["fold"] == 0).astype(int)
    judged = cross_conformal(table)
    assert judged.loc[table["fold"] == 0, "p0"].isna().all()
    assert judged.loc[table["fold"] == 1, "p0"].notna().all()
