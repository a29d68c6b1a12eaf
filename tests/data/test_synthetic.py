import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial import cKDTree
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from metaniche.data.prepare import prepare_sample
from metaniche.data.synthetic import SITES, SyntheticConfig, generate, resource
from metaniche.data.synthetic_tissue import DRIVER, PAIRS, TYPES, gene_panel
from metaniche.data.task import Task, make_targets
from metaniche.errors import ConfigError
from metaniche.graph import GraphConfig

ONCE = np.ravel_multi_index(np.triu_indices(len(TYPES)), (len(TYPES), len(TYPES)))
SMALL = SyntheticConfig(n_patients=60, max_samples=1, n_cells=400)


@pytest.fixture(scope="module")
def tumours():
    made = generate(SMALL)
    return made, {s: made.read(s) for s in made.samples.index}


def test_the_same_seed_gives_the_same_tumours_whatever_is_read_first(tumours):
    made, tissue = tumours
    name = made.samples.index[7]
    again = generate(SMALL).read(name)
    assert (again.X != tissue[name].X).nnz == 0
    assert np.array_equal(again.obsm["spatial"], tissue[name].obsm["spatial"])
    pd.testing.assert_frame_equal(again.obs, tissue[name].obs)
    assert not generate(SyntheticConfig(**{**vars(SMALL), "seed": 1})).patients.equals(made.patients)


def test_the_planted_signal_tells_the_outcome(tumours):
    made, tissue = tumours
    signal = [tissue[s].obs["true_signal"].sum() / (tissue[s].obs["true_type"] == "malignant").sum() for s in tissue]
    assert roc_auc_score(made.patients["metastasis"], signal) > 0.9


def out_of_fold_auroc(x, y):
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    return roc_auc_score(y, cross_val_predict(LogisticRegression(C=0.1), x, y, cv=5, method="predict_proba")[:, 1])


@pytest.fixture(scope="module")
def five_cohorts():
    """Five seeds of 80 patients: what simple models would read off their samples, and the outcome."""
    views = {"composition": composition, "pseudobulk": pseudobulk, "states": driving_genes, "neighbours": type_contacts}
    made = [generate(SyntheticConfig(max_samples=1, n_cells=250, seed=seed)) for seed in range(5)]
    tables = []
    for cohort in made:
        samples = [cohort.read(s) for s in cohort.samples.index]
        tables.append({name: np.array([view(a) for a in samples]) for name, view in views.items()})
    return tables, [cohort.patients["metastasis"].to_numpy() for cohort in made]


def composition(adata):
    return np.log(adata.obs["cell_type"].value_counts(normalize=True, sort=False) + 1e-3)


def pseudobulk(adata):
    return np.log1p(np.asarray(adata.X.sum(0)).ravel() / adata.X.sum() * 1e4)


def driving_genes(adata):
    """Mean ligand of the sending type and receptor of the receiving type."""
    types = adata.obs["cell_type"].to_numpy()
    pairs = ((DRIVER.ligand, DRIVER.sender), (DRIVER.receptor, DRIVER.receiver))
    return [adata[types == name, gene].X.mean() for gene, name in pairs]


def type_contacts(adata):
    """How often each type stands within 20 um of each type, per cell."""
    code = adata.obs["cell_type"].cat.codes.to_numpy(int)
    pairs = cKDTree(adata.obsm["spatial"]).query_pairs(20.0, output_type="ndarray")
    first, second = np.sort(code[pairs], axis=1).T
    return np.bincount(first * len(TYPES) + second, minlength=len(TYPES) ** 2)[ONCE] / len(code)


@pytest.mark.parametrize("view", ["composition", "pseudobulk", "states", "neighbours"])
def test_simple_summaries_do_not_tell_the_outcome(five_cohorts, view):
    """The 99 % interval over five seeds of the cross-validated AUROC holds 0.5."""
    tables, outcomes = five_cohorts
    aurocs = [out_of_fold_auroc(table[view], y) for table, y in zip(tables, outcomes)]
    half_width = stats.t.ppf(0.995, len(aurocs) - 1) * np.std(aurocs, ddof=1) / np.sqrt(len(aurocs))
    assert abs(np.mean(aurocs) - 0.5) < half_width, aurocs
    assert max(aurocs) < 0.75, aurocs


def test_counts_and_graph_tell_the_outcome(tumours):
    """Ligand of fibroblasts in reach times own receptor, averaged over malignant cells."""
    made, tissue = tumours
    cohort, scores = made.cohort(), []
    for name in tissue:
        sample, _ = prepare_sample(cohort, name, GraphConfig())
        graph, x = sample.graph, np.log1p(sample.x.toarray())
        ligand = x[:, sample.features.index(DRIVER.ligand)] * (np.asarray(sample.cell_types) == DRIVER.sender)
        weight = np.exp(-graph.distance_um.numpy() / DRIVER.length_scale_um)
        heard = np.bincount(graph.receivers(), weight * ligand[graph.indices.numpy()], minlength=graph.n_cells)
        scores.append((heard * x[:, sample.features.index(DRIVER.receptor)])[sample.is_malignant].mean())
    assert roc_auc_score(made.patients["metastasis"], scores) >= 0.9


def test_without_effect_the_outcome_is_chance():
    made = generate(SyntheticConfig(n_patients=4000, effect=0.0))
    auroc = roc_auc_score(made.patients["metastasis"], made.truth["signal"])
    assert abs(auroc - 0.5) < 4 * np.sqrt(1 / 12_000)


def test_the_truth_of_a_patient_is_the_signal_of_its_cells(tumours):
    made, tissue = tumours
    cells = [a.obs.loc[a.obs["true_type"] == "malignant", "true_signal"].mean() for a in tissue.values()]
    assert np.corrcoef(cells, made.truth["signal"])[0, 1] > 0.98


def test_label_times_and_sites_agree():
    patients = generate(SyntheticConfig(n_patients=2000)).patients
    late = patients["time"] > 60
    assert (patients.loc[late, "metastasis"] == 0).all()
    assert (patients.loc[(patients["event"] == 1) & ~late, "metastasis"] == 1).all()
    assert 0.3 < patients["event"].mean() < 0.8
    examined = patients[list(SITES)].notna().all(axis=1) & (patients["metastasis"] == 1)
    assert (patients.loc[examined, list(SITES)].sum(axis=1) >= 1).all()
    assert 0.52 < roc_auc_score(patients["metastasis"], patients["stage"]) < 0.75
    assert abs(roc_auc_score(patients["metastasis"], patients["age"]) - 0.5) < 0.06


def test_every_kind_of_task_finds_its_labels():
    made = generate(SyntheticConfig(n_patients=30))
    for task in (
        Task("m", "m", label="metastasis", positive=(1,), negative=(0,)),
        Task("t", "t", kind="cox", time="time", event="event"),
        Task("s", "s", kind="sites", sites=tuple(SITES)),
    ):
        assert len(make_targets(task, made.patients, made.samples).table) >= 28


def test_another_config_has_another_name():
    names = {generate(SyntheticConfig(seed=s, noise=n)).cohort().config.name for s in (0, 1) for n in ("low", "high")}
    assert len(names) == 4


def test_outcomes_are_those_of_a_cohort(tumours):
    made, _ = tumours
    patients = made.patients
    assert patients["metastasis"].mean() == pytest.approx(0.5, abs=0.15)
    assert (patients["time"] > 0).all()
    assert set(patients["event"]) == {0, 1}
    assert patients.loc[patients["metastasis"] == 0, ["liver", "lung", "bone"]].fillna(0).eq(0).all(axis=None)
    assert patients["liver"].isna().any()


@pytest.mark.parametrize("density", ["grid", "uniform", "mixed"])
@pytest.mark.parametrize("noise", ["none", "low", "high"])
def test_every_axis_gives_a_sample_that_passes_all_checks(density, noise):
    cohort = generate(SyntheticConfig(n_patients=2, n_cells=300, density=density, noise=noise)).cohort()
    adata = cohort.read_checked(cohort.samples.index[0])
    assert adata.uns["metaniche"]["um_per_unit"] == 1.0


def test_the_truth_is_documented(tumours):
    truth = tumours[0].truth
    assert {"ligand", "receptor", "sender", "receiver", "length_scale_um", "signal"} <= set(truth)
    assert len(truth["signal"]) == 60


@pytest.mark.parametrize("wrong", [{"density": "fractal"}, {"noise": "loud"}, {"n_patients": 1}, {"n_cells": 5}])
def test_an_impossible_config_is_refused(wrong):
    with pytest.raises(ConfigError, match="synthetic"):
        SyntheticConfig(**wrong)


def test_the_invented_pairs_are_measured_by_every_panel():
    pairs = resource().overlap(gene_panel(0)).measured
    assert len(pairs) == len(PAIRS)
    kinds = dict(zip(pairs["ligand"], pairs["signaling_type"]))
    assert (kinds[DRIVER.ligand], kinds["CD274"]) == ("secreted", "contact")
