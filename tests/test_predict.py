from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, concat
from tissue import READ, make_sample

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.predict import Predictor, load
from metaniche.training.fit import FitConfig, fit_bundle

TASK = Task("t", "a task", label="metastasis", positive=(1,))


@pytest.fixture(scope="module")
def bundle(small_cohort):
    samples, patients, table = small_cohort
    config = FitConfig(
        parameters={"width": 8}, features=FeatureConfig(), members=2, epochs=2,
        sampling=SamplingConfig(windows=1, window_cells=40),
    )  # fmt: skip
    return fit_bundle(samples, make_targets(TASK, patients, table), config, **READ)


def as_anndata(sample, shuffle=False):
    """The sample as a file would hold it: rows in file order."""
    rows = np.argsort(sample.file_order)
    adata = AnnData(sample.x[rows], obs=sample.cells.iloc[rows].drop(columns=keys.MALIGNANT))
    adata.var_names = list(sample.features)
    adata.obsm[keys.SPATIAL] = sample.graph.pos_um.numpy()[rows]
    return adata[:, ::-1].copy() if shuffle else adata


def test_anndata_in_anndata_out(bundle):
    adata = as_anndata(make_sample("new", "p", seed=50))
    out = Predictor(bundle).predict(adata, um_per_unit=1.0)
    malignant = (adata.obs["cell_type"] == "malignant").to_numpy()
    potential = out.obs[keys.POTENTIAL].to_numpy()
    assert np.isfinite(potential[malignant]).all()
    assert np.isnan(potential[~malignant]).all()
    assert out.obs[keys.ATTENTION].sum() == pytest.approx(1, abs=1e-4)
    assert out.obsm[keys.EMBEDDING].shape == (80, 8)
    about = out.uns[keys.UNS]
    assert about["notice"] == keys.RESEARCH_USE_ONLY
    assert about["model_hash"] == bundle.hash
    row = about["units"].iloc[0]
    assert row["low"] <= row["risk"] <= row["high"]
    assert row["coverage"] == 1
    assert keys.POTENTIAL not in adata.obs


def test_scores_stand_at_the_rows_of_their_cells(bundle):
    """Rows of the file in another order: the same value for the same cell id."""
    adata = as_anndata(make_sample("new", "p", seed=50))
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    one, other = (Predictor(bundle).predict(a, um_per_unit=1.0).obs[keys.ATTENTION] for a in (adata, shuffled))
    assert np.allclose(one, other.reindex(one.index), atol=1e-6)


def test_the_order_of_the_markers_does_not_matter_to_the_bit(bundle):
    sample = make_sample("new", "p", seed=50)
    one, other = (Predictor(bundle).predict(as_anndata(sample, s), um_per_unit=1.0) for s in (False, True))
    assert np.array_equal(one.obs[keys.POTENTIAL], other.obs[keys.POTENTIAL], equal_nan=True)


def test_several_samples_in_one_anndata(bundle):
    parts = [as_anndata(make_sample("new", "p", seed=s)) for s in (50, 51)]
    together = concat(parts, label=keys.SAMPLE, keys=["a", "b"], index_unique="-")
    together.obs[keys.PATIENT] = together.obs[keys.SAMPLE].astype(str)
    out = Predictor(bundle).predict(together, um_per_unit=1.0)
    alone = Predictor(bundle).predict(parts[1], um_per_unit=1.0)
    units = out.uns[keys.UNS]["units"].set_index("unit_id")
    assert list(units.index) == ["a", "b"]
    assert units.loc["b", "risk"] == pytest.approx(alone.uns[keys.UNS]["units"]["risk"].iloc[0], abs=1e-6)


def test_samples_of_a_patient_that_do_not_stand_together_keep_their_own_scores(bundle):
    """Patients A, B, A in one file: each cell scores as in its sample alone, where samples are scored one by one."""
    predictor = Predictor(replace(bundle, task=bundle.task | {"level": "sample"}))
    parts = [as_anndata(make_sample("new", "p", seed=s, n_cells=n)) for s, n in ((50, 80), (51, 60), (52, 70))]
    together = concat(parts, label=keys.SAMPLE, keys=["s1", "s2", "s3"], index_unique="-")
    together.obs[keys.PATIENT] = together.obs[keys.SAMPLE].map({"s1": "A", "s2": "B", "s3": "A"}).astype(str)
    whole = predictor.predict(together, um_per_unit=1.0)
    by_patient = Predictor(bundle).predict(together, um_per_unit=1.0)
    for sample, part in zip(("s1", "s2", "s3"), parts):
        alone = predictor.predict(part, um_per_unit=1.0)
        here = (together.obs[keys.SAMPLE] == sample).to_numpy()
        for scored in (whole, by_patient):
            np.testing.assert_allclose(scored.obsm[keys.EMBEDDING][here], alone.obsm[keys.EMBEDDING], atol=1e-5)
            np.testing.assert_allclose(scored.obs[keys.POTENTIAL][here], alone.obs[keys.POTENTIAL], atol=1e-5)


def test_a_panel_that_measures_too_little_is_refused_with_the_missing_names(bundle):
    sample = make_sample("new", "p", seed=50)
    poor = replace(sample, x=sample.x[:, :1], features=sample.features[:1])
    with pytest.raises(InputError, match=r"found 25 %.*CXCR4"):
        Predictor(bundle).score([poor])
    assert Predictor(bundle).score([poor], coverage_floor=0.2).units["coverage"].iloc[0] == 0.25


def test_a_bundle_on_disk_says_the_same(bundle, tmp_path):
    sample = make_sample("new", "p", seed=50)
    read = load(bundle.save(tmp_path / "b"))
    pd.testing.assert_frame_equal(read.score([sample]).units, Predictor(bundle).score([sample]).units)


def test_unknown_units_are_asked_for(bundle):
    with pytest.raises(InputError, match="um_per_unit"):
        Predictor(bundle).predict(as_anndata(make_sample("new", "p", seed=50)))


def test_types_under_other_names_score_the_same_once_they_are_named(bundle):
    known = as_anndata(make_sample("new", "p", seed=50))
    other = known.copy()
    other.obs[keys.CELL_TYPE] = other.obs[keys.CELL_TYPE].astype(str) + " cell"
    names = {f"{name} cell": name for name in known.obs[keys.CELL_TYPE].unique()}
    predictor = Predictor(bundle)
    scored, renamed = (
        predictor.predict(known, um_per_unit=1.0),
        predictor.predict(other, um_per_unit=1.0, type_aliases=names),
    )
    np.testing.assert_array_equal(scored.obs[keys.POTENTIAL], renamed.obs[keys.POTENTIAL])
    assert scored.obs[keys.POTENTIAL].notna().any()
    assert set(renamed.obs[keys.CELL_TYPE]) == set(names)


@pytest.mark.parametrize("spoil", ["absent", "renamed", "upper case"])
def test_cell_types_that_are_missing_or_unknown_are_refused_and_not_guessed(bundle, spoil):
    adata = as_anndata(make_sample("new", "p", seed=50))
    if spoil == "absent":
        adata.obs = adata.obs.rename(columns={keys.CELL_TYPE: "celltype"})
        words = r"obs\['cell_type'\].*found columns 'celltype'.*Did you mean 'celltype'"
    else:
        change = str.upper if spoil == "upper case" else "{} cell".format
        adata.obs[keys.CELL_TYPE] = adata.obs[keys.CELL_TYPE].astype(str).map(change)
        words = r"found 0 % of cells with a known type; known: \['caf', 'malignant', 't_cell'\].*type_aliases"
    with pytest.raises(InputError, match=words):
        Predictor(bundle).predict(adata, um_per_unit=1.0)


def test_coverage_is_of_genes_and_of_types(bundle):
    adata = as_anndata(make_sample("new", "p", seed=50))
    adata.obs[keys.CELL_TYPE] = adata.obs[keys.CELL_TYPE].cat.rename_categories({"t_cell": "lymphocyte"})
    units = Predictor(bundle).predict(adata, um_per_unit=1.0).uns[keys.UNS]["units"]
    assert units["coverage"].iloc[0] == pytest.approx((adata.obs[keys.CELL_TYPE] != "lymphocyte").mean())


def test_a_sample_without_malignant_cells_has_no_potential_and_says_so(bundle, caplog):
    adata = as_anndata(make_sample("new", "p", seed=50))
    healthy = adata[adata.obs[keys.CELL_TYPE] != "malignant"].copy()
    out = Predictor(bundle).predict(healthy, um_per_unit=1.0)
    assert out.obs[keys.POTENTIAL].isna().all()
    assert out.obs[keys.ATTENTION].notna().all()
    assert "no cell is of a malignant type ('malignant')" in caplog.text


def test_the_unit_of_length_is_written_beside_the_scores(bundle):
    out = Predictor(bundle).predict(as_anndata(make_sample("new", "p", seed=50)), um_per_unit=1.0)
    assert out.uns[keys.UNS][keys.UM_PER_UNIT] == 1.0


def test_one_network_gives_no_interval(bundle):
    alone = Predictor(replace(bundle, states=bundle.states[:1]))
    row = alone.score([make_sample("new", "p", seed=50)]).units.iloc[0]
    assert np.isfinite(row["risk"])
    assert np.isnan([row["low"], row["high"]]).all()


@pytest.fixture(scope="module")
def clinical_bundle(small_cohort):
    samples, patients, table = small_cohort
    config = FitConfig(
        parameters={"width": 8}, features=FeatureConfig(), members=1, epochs=1, use_clinical=True,
        sampling=SamplingConfig(windows=1, window_cells=40),
    )  # fmt: skip
    targets = make_targets(replace(TASK, clinical=("age", "sex")), patients, table)
    return fit_bundle(samples, targets, config, patients=patients, **READ)


def test_clinical_variables_that_are_not_given_are_asked_for(clinical_bundle):
    predictor, sample = Predictor(clinical_bundle), make_sample("new", "p007", seed=50)
    given = pd.DataFrame({"patient_id": ["p007"], "age": [71.0], "sex": ["f"]})
    risk = predictor.score([sample], given).units["risk"]
    pd.testing.assert_series_equal(risk, predictor.score([sample], given.set_index("patient_id")).units["risk"])
    with pytest.raises(InputError, match=r"no patients=\. Give patients=, a table of patient_id and age, sex"):
        predictor.score([sample])
    with pytest.raises(InputError, match=r"none for 'p007'; its ids are 'p07'. Did you mean 'p07'\?"):
        predictor.score([sample], given.assign(patient_id="p07"))
    with pytest.raises(InputError, match=r"column\(s\) 'sex', found columns 'age', 'sexx'. Did you mean 'sexx'\?"):
        predictor.score([sample], given.rename(columns={"sex": "sexx"}))
