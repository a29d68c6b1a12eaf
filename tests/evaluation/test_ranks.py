import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from metaniche.evaluation.ranks import patient_ranks, ranks, score_column


def table(scores, column="score"):
    """Scores of repeats x patients, of two models."""
    rows = [
        {"model": model, "repeat": r, "patient_id": f"p{i}", column: float(s)}
        for model in ("a", "b")
        for r, of_one in enumerate(scores)
        for i, s in enumerate(of_one)
    ]
    return pd.DataFrame(rows)


@given(st.lists(st.permutations(range(5)), min_size=1, max_size=4), st.floats(0.1, 10), st.floats(-5, 5))
def test_a_repeat_counts_by_its_order_and_not_by_its_scale(scores, slope, shift):
    found = patient_ranks(table(scores), "a")
    np.testing.assert_allclose(found.to_numpy(), (1 + np.array(scores)).mean(0) / 5)
    scaled = table([np.array(scores[0]) * slope + shift, *scores[1:]])
    pd.testing.assert_series_equal(patient_ranks(scaled, "a"), found)


def test_the_risk_serves_where_there_is_no_score_and_units_without_one_are_left_out():
    predictions = table([[3, 1, 2]], "risk")
    assert score_column(predictions) == "risk"
    assert patient_ranks(predictions.drop(columns="repeat"), "b").sort_values().index.tolist() == ["p1", "p2", "p0"]
    gap = table([[3, 1, 2]]).assign(score=lambda t: t["score"].where(t["score"] != 2))
    assert patient_ranks(gap, "a").index.tolist() == ["p0", "p1"]
    assert ranks(gap[gap["model"] == "a"]).max() == 1
    assert patient_ranks(gap, None).empty
