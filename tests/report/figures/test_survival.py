import numpy as np
import pandas as pd
import pytest

from metaniche.report.figures.survival import kaplan_meier, logrank_p, risk_groups


def _groups(time, event, group):
    return pd.DataFrame({"time": time, "event": event, "group": group})


def _product_limit(time, event, at):
    alive = 1.0
    for t in np.unique(time[(event == 1) & (time <= at)]):
        alive *= 1 - ((time == t) & (event == 1)).sum() / (time >= t).sum()
    return alive


def test_groups_are_of_equal_size_and_ordered_by_risk(survival_predictions):
    table = risk_groups(survival_predictions, "relational_mil")
    assert len(table) == 80
    assert table["group"].value_counts().max() - table["group"].value_counts().min() <= 1
    assert list(table["group"].cat.categories) == ["low risk", "middle risk", "high risk"]
    highest = table.groupby("group", observed=True)["rank"].agg(["min", "max"]).to_numpy()
    assert (highest[:-1, 1] <= highest[1:, 0]).all()


def test_few_events_give_halves(survival_predictions):
    few = survival_predictions.assign(event=lambda d: d["event"].where(d["patient_id"] < "P30", 0))
    assert risk_groups(few, "relational_mil")["group"].cat.categories.size == 2


def test_groups_do_not_depend_on_the_scale_of_a_repeat(survival_predictions):
    scaled = survival_predictions.assign(risk=lambda d: d["risk"] * (1 + d["repeat"]) + 5 * d["repeat"])
    one, two = (risk_groups(p, "gatv2_mil") for p in (survival_predictions, scaled))
    pd.testing.assert_frame_equal(one, two)


def test_patients_are_placed_by_score_where_there_is_one(survival_predictions):
    of_folds = survival_predictions.assign(score=survival_predictions["risk"], risk=0.0)
    one, two = (risk_groups(p, "gatv2_mil") for p in (survival_predictions, of_folds))
    pd.testing.assert_frame_equal(one, two)


def test_several_units_of_a_patient_are_one_patient(survival_predictions):
    doubled = pd.concat([survival_predictions, survival_predictions.assign(unit_id=lambda d: d["unit_id"] + "b")])
    assert len(risk_groups(doubled, "relational_mil")) == 80


def test_curves_are_the_product_limit_estimate_and_numbers_at_risk_are_counted():
    rng = np.random.default_rng(0)
    time, event = np.round(rng.exponential(20, 40), 0) + 1, rng.integers(0, 2, 40)
    groups = _groups(time, event, ["a"] * 20 + ["b"] * 20)
    figure = kaplan_meier(groups)
    for name in "ab":
        line = next(x for x in figure.axes[0].lines if x.get_gid() == name)
        own = groups[groups["group"] == name]
        for t, s in zip(*line.get_data()):
            assert s == pytest.approx(_product_limit(own["time"].to_numpy(), own["event"].to_numpy(), t), abs=1e-9)
    counts = [t.get_text() for t in figure.axes[1].texts]
    assert counts[0] == "20"
    tick = figure.axes[1].texts[1].get_position()[0]
    assert counts[1] == str((groups["time"][:20] >= tick).sum())


def test_logrank_tells_apart_and_does_not():
    apart = _groups(np.r_[np.arange(1, 21), np.arange(101, 121)], np.ones(40), ["a"] * 20 + ["b"] * 20)
    same = _groups(np.r_[np.arange(1, 21), np.arange(1, 21)], np.ones(40), ["a"] * 20 + ["b"] * 20)
    assert logrank_p(apart) < 1e-6
    assert logrank_p(same) > 0.9
    assert np.isnan(logrank_p(apart.assign(event=0)))


@pytest.mark.parametrize("rows", [0, 4])
def test_no_event_says_so(rows):
    figure = kaplan_meier(_groups([1.0, 2, 3, 4], [0, 0, 0, 0], ["a", "a", "b", "b"]).head(rows))
    assert "No Kaplan-Meier" in figure.axes[0].texts[0].get_text()


def test_one_group_is_drawn_without_a_test():
    figure = kaplan_meier(_groups([1.0, 2, 3], [1, 0, 1], ["all"] * 3))
    assert "one group only" in [t.get_text() for t in figure.axes[0].texts]
