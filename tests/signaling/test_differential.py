import numpy as np
import pandas as pd
import pytest
from scipy import stats

from metaniche.errors import InputError
from metaniche.signaling import differential_communication
from metaniche.signaling.differential import _Samples


def cohort(seed, n_patients=16, n_pairs=40, effect=0.0, samples=3):
    """Signals of patients who differ, in samples that differ less; the first three pairs carry the effect."""
    rng = np.random.default_rng(seed)
    groups = pd.Series(rng.permutation(np.repeat(["no", "yes"], n_patients // 2)), [f"p{i}" for i in range(n_patients)])
    rows = []
    for patient in groups.index:
        own = rng.normal(1.0, 0.2, n_pairs) + effect * (groups[patient] == "yes") * (np.arange(n_pairs) < 3)
        for k in range(rng.integers(1, samples + 1)):
            rows.append(
                pd.DataFrame(
                    {
                        "sample_id": f"{patient}_{k}",
                        "patient_id": patient,
                        "sender": "a",
                        "receiver": "b",
                        "ligand": [f"L{i}" for i in range(n_pairs)],
                        "receptor": "R",
                        "score": np.maximum(own + rng.normal(0, 0.05, n_pairs), 0.0),
                        "expected": 1.0,
                        "sd": 0.1,
                        "n_edges": rng.integers(50, 500, n_pairs),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True), groups


def test_p_values_are_uniform_without_a_difference():
    drawn = []
    for seed in range(200):
        table, groups = cohort(seed, n_patients=10, n_pairs=1)
        drawn += list(differential_communication(table, groups, n_permutations=300)["p"])
    assert len(drawn) == 200
    assert stats.kstest(drawn, "uniform").pvalue > 0.001


def test_a_difference_is_found_with_its_size():
    table, groups = cohort(0, effect=1.0)
    found = differential_communication(table, groups, n_permutations=2000)
    assert set(found["ligand"].head(3)) == {"L0", "L1", "L2"}
    assert (found["q"].head(3) < 0.05).all()
    assert (found["q"].iloc[3:] > 0.05).all()
    assert found["difference"].head(3).between(0.7, 1.3).all()
    assert (found["low"] < found["difference"]).all()
    assert (found["difference"] < found["high"]).all()
    assert found.attrs["groups"] == ("no", "yes")
    assert (found["effect"].head(3) > 2).all()


def test_the_effect_is_hedges_g():
    table, groups = cohort(7, n_patients=8, n_pairs=1, effect=1.0, samples=1)
    values = table.set_index("patient_id")["score"]
    a, b = (values[groups.index[groups == name]] for name in ("no", "yes"))
    pooled = np.sqrt((3 * a.var() + 3 * b.var()) / 6)
    expected = (b.mean() - a.mean()) / pooled * (1 - 3 / (4 * 8 - 9))
    found = differential_communication(table, groups)["effect"].iloc[0]
    assert found == pytest.approx(expected, rel=1e-6)


def test_patients_are_the_same_as_numbers_and_as_text():
    table, groups = cohort(1)
    number = {name: i for i, name in enumerate(groups.index)}
    numbered = table.assign(patient_id=table["patient_id"].map(number))
    as_text = differential_communication(numbered, groups.rename(lambda p: str(number[p])), n_permutations=50)
    pd.testing.assert_frame_equal(
        as_text, differential_communication(numbered, groups.rename(number), n_permutations=50)
    )


def test_more_samples_or_cells_of_the_same_patients_change_nothing():
    table, groups = cohort(1, samples=1)
    copies = [table.assign(sample_id=table["sample_id"] + f"_{k}", n_edges=table["n_edges"] * 50) for k in range(20)]
    one = differential_communication(table, groups, n_permutations=200)
    many = differential_communication(pd.concat(copies), groups, n_permutations=200)
    pd.testing.assert_frame_equal(one, many)


def test_with_few_patients_every_permutation_is_counted():
    table, groups = cohort(2, n_patients=6, n_pairs=5, effect=5.0)
    found = differential_communication(table, groups)
    assert np.allclose(found["p"] * 20, np.round(found["p"] * 20))  # 6 over 3 ways
    assert found["p"].min() == pytest.approx(2 / 20)


def test_welchs_t_is_scipys():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(12, 4))
    x[0, 0] = x[7, 2] = np.nan
    second = np.arange(12) >= 5
    expected = stats.ttest_ind(x[second], x[~second], equal_var=False, nan_policy="omit").statistic
    np.testing.assert_allclose(_Samples(x).welch(second[None])[0], expected)


def test_signals_are_compared_within_strata():
    table, groups = cohort(4, n_pairs=2)
    both = pd.concat([table.assign(niche="front"), table.assign(niche="core", score=1.0)])
    found = differential_communication(both, groups, strata=["niche"], n_permutations=100)
    assert set(found["niche"]) == {"front", "core"}
    assert len(found) == 4
    core = found[found["niche"] == "core"]
    assert (core["difference"] == 0).all()
    assert core[["low", "high"]].isna().all(axis=None)  # nothing varies


def test_patients_without_a_group_and_signals_of_few_patients_are_left_out():
    table, groups = cohort(5)
    groups.iloc[:2] = None
    rare = table[table["ligand"] == "L0"].groupby("patient_id").head(1).head(3).assign(ligand="RARE")
    found = differential_communication(pd.concat([table, rare]), groups, n_permutations=50)
    assert "RARE" not in set(found["ligand"])
    assert (found["n_first"] + found["n_second"] == len(groups) - 2).all()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda g: g.replace("yes", "no"), "two groups"),
        (lambda g: g.where(g.index < "p2", "other"), "two groups"),
        (lambda g: pd.concat([g, g]), "once in the groups"),
        (lambda g: g.where((g == "no") | (g.index == g.index[g == "yes"][0])), "at least 3 patients"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(spoil, words):
    table, groups = cohort(6)
    with pytest.raises(InputError, match=words):
        differential_communication(table, spoil(groups))


def test_signals_of_too_few_patients_are_an_empty_table_with_its_columns():
    table, groups = cohort(8)
    few = table[table["patient_id"].isin(groups.index[:4])]
    rest = table[~table["patient_id"].isin(groups.index[:4])].assign(ligand=lambda t: t["ligand"] + t["patient_id"])
    found = differential_communication(pd.concat([few, rest]), groups)
    assert found.empty
    assert {"difference", "low", "high", "p", "q"} <= set(found)
    assert found.attrs["groups"] == ("no", "yes")


def test_p_values_hold_where_a_signal_is_measured_in_few_patients_of_one_group():
    """Of 20 patients in each group, 3 of the first: against groups of that size, not of ten and ten."""
    drawn = []
    for seed in range(8):
        table, groups = cohort(seed, n_patients=40, n_pairs=40, samples=1)
        few = groups.index[groups == "no"][3:]
        table = table[~table["patient_id"].isin(few) | (table["ligand"] == "L0")]
        found = differential_communication(table, groups, n_permutations=999)
        rare = found[found["ligand"] != "L0"]
        assert set(zip(rare["n_first"], rare["n_second"])) == {(3, 20)}
        drawn += list(rare["p"])
    drawn = np.array(drawn)
    assert (drawn <= 0.05).mean() < 0.075
    assert (drawn <= 0.01).mean() < 0.025


def test_the_interval_is_welchs_and_holds_for_few_patients():
    outside = 0
    for seed in range(40):
        table, groups = cohort(seed, n_patients=6, n_pairs=5, samples=1)
        found = differential_communication(table, groups).sort_values("ligand")
        outside += ((found["low"] > 0) | (found["high"] < 0)).sum()
        values = table.pivot_table(index="patient_id", columns="ligand", values="score")
        welch = stats.ttest_ind(*(values[groups == g] for g in ("yes", "no")), equal_var=False).confidence_interval(
            0.95
        )
        np.testing.assert_allclose(found[["low", "high"]].T, welch)
    assert outside / 200 < 0.08
