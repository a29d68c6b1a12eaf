import numpy as np
import pandas as pd
import pytest

from metaniche.evaluation.conformal import coverage_table, cross_conformal, in_words
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


def test_units_of_unknown_label_calibrate_nothing_and_have_sets():
    table = predictions().assign(weight=1.0)
    table.loc[:9, "weight"] = 0.0
    judged = cross_conformal(table)
    flipped = cross_conformal(table.assign(y=table["y"].where(table["weight"] > 0, 1 - table["y"])))
    pd.testing.assert_frame_equal(judged[["p0", "p1"]], flipped[["p0", "p1"]])
    assert judged["p0"].notna().all()
    changed = coverage_table(flipped).drop(columns="model")
    pd.testing.assert_frame_equal(coverage_table(judged).drop(columns="model"), changed)


def test_each_site_is_calibrated_by_itself():
    liver, lung = predictions(seed=1).assign(site="liver"), predictions(seed=2).assign(site="lung")
    judged = cross_conformal(pd.concat([liver, lung], ignore_index=True))
    alone = cross_conformal(lung)
    np.testing.assert_allclose(judged.loc[judged["site"] == "lung", "p1"], alone["p1"])


def test_sets_in_words():
    judged = pd.DataFrame({"p0": [0.5, 0.5, 0.01, 0.01, np.nan], "p1": [0.5, 0.01, 0.5, 0.01, np.nan]})
    assert list(in_words(judged, (0.1,))["set_90"]) == ["0 or 1", "0", "1", "neither", ""]
