import numpy as np
import pandas as pd
import pytest
from scipy import stats

from metaniche.errors import InputError
from metaniche.signaling import consistent_signals
from metaniche.signaling.patients import MAX_CV, of_patients

BY = ["sender", "receiver", "ligand", "receptor"]


def row(sample, patient, ligand, score, n_edges=100, expected=1.0, sd=0.1, q=0.5):
    return {
        "sample_id": sample, "patient_id": patient, "sender": "a", "receiver": "b", "ligand": ligand, "receptor": "R",
        "score": score, "expected": expected, "sd": sd, "n_edges": n_edges, "q": q,
    }  # fmt: skip


def test_samples_of_a_patient_are_joined_by_their_edges():
    table = pd.DataFrame([row("s1", "p", "L", 3.0, n_edges=300), row("s2", "p", "L", 1.0, n_edges=100, expected=2.0)])
    assert of_patients(table, "score", BY).value.to_numpy() == pytest.approx(2.5)
    assert of_patients(table, "enrichment", BY).value.to_numpy() == pytest.approx((900 + 100) / (300 + 200))


def test_a_null_too_wide_to_say_anything_is_not_measured_whatever_the_score():
    wide = MAX_CV * 1.01
    for score in (0.0, 50.0):
        table = pd.DataFrame([row("s1", "p", "L", score, sd=wide), row("s1", "p", "M", 1.0)])
        found = of_patients(table, "enrichment", BY).value
        assert np.isnan(found.to_numpy()).tolist() == [[True, False]]


def test_a_signal_that_a_sample_did_not_test_is_missing_and_not_zero():
    table = pd.DataFrame([row("s1", "p", "L", 3.0), row("s2", "q", "M", 1.0)])
    found = of_patients(table, "score", BY).value
    assert np.isnan(found.loc["p"].xs("M", level="ligand").item())


def test_signals_of_most_patients_come_first():
    rng = np.random.default_rng(0)
    rows = [
        row(f"s{p}", f"p{p}", ligand, rng.normal(mean, 0.1), q=0.01 if mean > 1 else 0.9)
        for p in range(8)
        for ligand, mean in (("L", 1.5), ("M", 1.0))
    ]
    rows += [row("s0", "p0", "RARE", 9.0), row("s1", "p1", "RARE", 9.0)]
    found = consistent_signals(pd.DataFrame(rows)).set_index("ligand")
    assert list(found.index) == ["L", "M"]  # two patients are too few
    assert found.loc["L", "low"] > 1
    assert found.loc["L", "q"] < 0.01
    assert found.loc["M", "low"] < 1 < found.loc["M", "high"]
    assert found["n_found"].tolist() == [8, 0]
    assert found["n_patients"].tolist() == [8, 8]


def test_interval_and_p_are_those_of_johnsons_t():
    values, cv = np.random.default_rng(3).normal(1.3, 0.4, 7), 0.3
    rows = [row(f"s{i}", f"p{i}", "L", value, sd=cv) for i, value in enumerate(values)]
    found = consistent_signals(pd.DataFrame(rows)).iloc[0]
    third, error, away = 2 * cv**4, values.std(ddof=1) / np.sqrt(7), values.mean() - 1
    shift = third / (6 * cv**2 * 7)
    expected = (away + shift + third * away**2 / (3 * cv**4)) / error
    half = stats.t.ppf(0.975, 6) * error
    assert found["enrichment"] == pytest.approx(values.mean())
    assert found[["low", "high"]].tolist() == pytest.approx([values.mean() + shift + k * half for k in (-1, 1)])
    assert found["p"] == pytest.approx(2 * stats.t.sf(abs(expected), 6))


def test_p_is_as_small_on_either_side_of_the_null_as_it_says():
    """Ratios of a wide null are skewed; Student's t would give 7 % on the low side and 1 % on the high one."""
    rng, cv = np.random.default_rng(4), 0.5
    ratios = rng.gamma(1 / cv**2, cv**2, (4000, 8))
    rows = [
        row(f"s{k}", f"p{k}", f"L{i}", ratio, sd=cv)
        for i, of_signal in enumerate(ratios)
        for k, ratio in enumerate(of_signal)
    ]
    found = consistent_signals(pd.DataFrame(rows))
    small = found["p"] <= 0.05
    for side in (found["enrichment"] < 1, found["enrichment"] > 1):
        assert 0.018 < (small & side).mean() < 0.033


def test_patients_who_are_all_at_the_null_have_no_p_to_speak_of():
    found = consistent_signals(pd.DataFrame([row(f"s{i}", f"p{i}", "L", 1.0) for i in range(4)])).iloc[0]
    assert found["p"] == 1


def test_more_samples_of_the_same_patients_make_no_more_evidence():
    rng = np.random.default_rng(1)
    rows = [row(f"s{p}", f"p{p}", "L", rng.normal(1.1, 0.2)) for p in range(6)]
    again = [r | {"sample_id": f"{r['sample_id']}_{k}"} for r in rows for k in range(10)]
    few, many = (consistent_signals(pd.DataFrame(r)) for r in (rows, again))
    assert many["p"].iloc[0] == pytest.approx(few["p"].iloc[0], rel=0.02)  # the null is narrower, no more


def test_nothing_in_three_patients_is_an_empty_table():
    assert consistent_signals(pd.DataFrame([row("s", "p", "L", 1.0)])).empty


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.drop(columns="sd"), "found no 'sd'"),
        (lambda t: pd.concat([t, t.assign(patient_id="other")]), "every sample to have one patient"),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused(spoil, words):
    with pytest.raises(InputError, match=words):
        of_patients(spoil(pd.DataFrame([row("s", "p", "L", 1.0)])), "enrichment", BY)


def test_an_unknown_value_is_refused():
    with pytest.raises(InputError, match="enrichment"):
        of_patients(pd.DataFrame([row("s", "p", "L", 1.0)]), "z", BY)


def test_no_more_patients_are_found_than_were_measured():
    wide = MAX_CV * 1.01
    rows = [row(f"s{i}", f"p{i}", "L", 2.0, q=0.01, sd=0.1 if i < 3 else wide) for i in range(6)]
    found = consistent_signals(pd.DataFrame(rows)).iloc[0]
    assert (found["n_patients"], found["n_found"]) == (3, 3)
