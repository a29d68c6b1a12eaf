import numpy as np
import pytest

from metaniche.errors import ConfigError
from metaniche.evaluation.baselines import ClinicalModel, SummaryModel, fused_with, standard_baselines
from metaniche.evaluation.fusion import Fused
from metaniche.evaluation.learners import ForestClassifier, PenalisedCox, RidgeLogistic
from metaniche.evaluation.summaries import Composition, Neighbourhoods
from metaniche.metrics import auroc


def split(cohort, task):
    patients = list(cohort.patients.index)
    train, test = patients[:16], patients[16:]
    targets = cohort.targets(task)
    clinical = cohort.patients[list(task.clinical)]
    return (
        cohort.of(train),
        targets.of(train),
        clinical.loc[train],
        cohort.of(test),
        targets.of(test),
        clinical.loc[test],
    )


def test_composition_finds_a_composition_effect(cohort, tasks):
    train, known, seen, test, truth, unseen = split(cohort, tasks["binary"])
    model = SummaryModel("composition", Composition(), RidgeLogistic()).fit(train, known, seen, 0)
    risk = model.predict(test, unseen, truth.table.index).risk
    assert auroc(truth.table["y"], risk) > 0.9
    assert model.n_variables == 3


def test_models_of_one_block_fit_it_once_and_keep_their_own_fit(cohort, tasks):
    """Two models share a block's configuration; a later fit of one on other patients leaves the other as it was."""
    train, known, seen, test, truth, unseen = split(cohort, tasks["binary"])
    block = Neighbourhoods(4)
    one, two = (SummaryModel(n, block, RidgeLogistic((1.0,))) for n in "ab")
    one.fit(train, known, seen, 0)
    two.fit(train, known, seen, 0)
    assert one.fitted_block is two.fitted_block
    assert block.clusters is None
    before = one.predict(test, unseen, truth.table.index).risk
    two.fit(test, truth, unseen, 0)
    assert one.fitted_block is not two.fitted_block
    np.testing.assert_array_equal(one.predict(test, unseen, truth.table.index).risk, before)


def test_sites_are_one_model_each_fitted_on_known_labels(cohort, tasks):
    train, known, seen, test, truth, unseen = split(cohort, tasks["sites"])
    model = SummaryModel("composition", Composition(), RidgeLogistic())
    prediction = model.fit(train, known, seen, 0).predict(test, unseen, truth.table.index)
    assert list(prediction.sites) == ["liver", "lung"]
    np.testing.assert_allclose(prediction.risk, prediction.sites.mean(axis=1))
    alone = known.table["liver"].notna()
    by_hand = RidgeLogistic().fit(
        Composition().fit(train, 0).transform(train, "patient", known.table.index[alone]),
        type(known)(tasks["binary"], known.table[alone].assign(y=known.table["liver"])),
        0,
    )
    x = Composition().fit(train, 0).transform(test, "patient", truth.table.index)
    np.testing.assert_allclose(prediction.sites["liver"], by_hand.risk(x))


def test_a_missing_and_an_unseen_category_are_predicted(cohort, tasks):
    train, known, seen, test, truth, unseen = split(cohort, tasks["binary"])
    model = ClinicalModel(RidgeLogistic()).fit(train, known, seen, 0)
    assert set(model.features.names) == {"age", "stage=I", "stage=II"}
    odd = unseen.assign(stage=["IV", None] * 4, age=[np.nan] * 8)
    assert np.isfinite(model.predict(test, odd, truth.table.index).risk).all()


def test_the_clinical_model_needs_clinical_variables(cohort, tasks):
    train, known, seen, *_ = split(cohort, tasks["binary"])
    for clinical in (None, seen[[]]):
        with pytest.raises(ConfigError, match="names none"):
            ClinicalModel(RidgeLogistic()).fit(train, known, clinical, 0)


def test_survival_predictions_carry_curves_and_the_scale_of_training(cohort, tasks):
    train, known, seen, test, truth, unseen = split(cohort, tasks["cox"])
    model = SummaryModel("composition", Composition(), PenalisedCox((0.1, 1.0))).fit(train, known, seen, 0)
    prediction = model.predict(test, unseen, truth.table.index)
    assert prediction.survival.index.equals(prediction.risk.index)
    assert prediction.train_scale[1] > 0


@pytest.mark.parametrize("level", ["sample", "cell"])
def test_units_below_the_patient_take_their_patients_clinical_variables(cohort_of, tasks, level):
    from dataclasses import replace

    cohort = cohort_of(6, samples_per_patient=2)
    task = tasks["cells"] if level == "cell" else replace(tasks["binary"], level="sample")
    targets, clinical = cohort.targets(task), cohort.patients[["age"]]
    model = ClinicalModel(RidgeLogistic()).fit(cohort.prepared, targets, clinical, 0)
    risk = model.predict(cohort.prepared, clinical, targets.table.index).risk
    assert risk.groupby(targets.table["patient_id"]).nunique().eq(1).all()
    assert risk.nunique() == 6


@pytest.mark.parametrize(
    ("task", "kind", "types", "clinical", "expected"),
    [
        ("binary", "none", True, False, {"composition (ridge)", "density (forest)", "neighbourhoods (ridge)"}),
        ("binary", "counts", False, False, {"pseudobulk (ridge)", "neighbourhoods (forest)"}),
        ("cox", "intensity", True, True, {"clinical", "pseudobulk (Cox)", "clinical + composition (forest)"}),
        ("cells", "counts", False, False, {"own features (ridge)", "own + neighbour mean (forest)"}),
        ("sites", "none", True, True, {"clinical (forest)", "clinical + density (ridge)"}),
    ],
)
def test_standard_baselines_use_what_there_is(tasks, task, kind, types, clinical, expected):
    models = standard_baselines(tasks[task], kind, types, clinical)
    names = [m.name for m in models]
    assert len(set(names)) == len(names)
    assert expected <= set(names)
    assert ("pseudobulk (ridge)" in names) == (kind != "none" and task == "binary")
    assert any(isinstance(m, Fused) for m in models) == clinical
    assert [m.role for m in models].count("clinical") == clinical


@pytest.mark.parametrize(
    ("task", "kind", "types", "clinical", "others"),
    [
        ("binary", "counts", True, True, ["clinical", "composition CLR (ridge)"]),
        ("cox", "intensity", False, False, ["pseudobulk (Cox)"]),
        ("cells", "counts", True, False, ["own + neighbour mean (ridge)"]),
        ("binary", "none", False, False, []),
    ],
)
def test_a_network_is_fused_with_the_clinical_and_the_plainest_linear_model(
    tasks, spy, task, kind, types, clinical, others
):
    models, network = standard_baselines(tasks[task], kind, types, clinical), spy("deep", role="model")
    fused = fused_with(models, [network])
    assert [m.other.name for m in fused] == others
    assert all(m.base is network and m.role == "model" for m in fused)


def test_a_cohort_of_bare_positions_still_has_density_and_no_cell_model(tasks):
    assert {m.name for m in standard_baselines(tasks["binary"], "none", False, False)} == {
        "density (ridge)",
        "density (forest)",
    }
    with pytest.raises(ConfigError, match="neither cell types nor measured features"):
        standard_baselines(tasks["cells"], "none", False, False)


def test_forest_is_an_alternative_for_every_task(cohort, tasks):
    train, known, seen, test, truth, unseen = split(cohort, tasks["binary"])
    model = SummaryModel("composition", Composition(), ForestClassifier(50)).fit(train, known, seen, 0)
    assert auroc(truth.table["y"], model.predict(test, unseen, truth.table.index).risk) > 0.9
