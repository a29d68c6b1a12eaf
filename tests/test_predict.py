import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData, concat, read_h5ad
from elsewhere import ELSEWHERE, accelerator
from tissue import GRAPH, READ, make_sample

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.errors import ConfigError, InputError
from metaniche.io import keys
from metaniche.io.read import read_sample
from metaniche.io.write import write_sample
from metaniche.predict import Predictor, load
from metaniche.signaling import Resource
from metaniche.training.calibrate import with_novelty
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


def test_clones_of_malignant_cells_have_a_potential(bundle, tmp_path):
    adata = as_anndata(make_sample("new", "p", n_cells=150, seed=50))
    adata.obs[keys.CLONE] = pd.Categorical(np.where(np.arange(150) % 3 == 0, None, "one"))
    out = Predictor(bundle).predict(adata, um_per_unit=1.0)
    (row,) = out.uns[keys.UNS]["clones"].to_dict("records")
    malignant = (adata.obs["cell_type"] == "malignant") & adata.obs[keys.CLONE].notna()
    assert (row["clone_id"], row["n_cells"]) == ("one", malignant.sum())
    assert row["low"] <= row["potential"] <= row["high"]
    write_sample(out, tmp_path / "out.h5ad")
    assert list(read_sample(tmp_path / "out.h5ad").uns[keys.UNS]["clones"]["clone_id"]) == ["one"]
    assert "clones" not in Predictor(bundle).predict(as_anndata(make_sample("new", "p")), um_per_unit=1.0).uns[keys.UNS]


def test_cells_unlike_those_of_training_are_counted_and_said(bundle, small_cohort):
    samples = small_cohort[0]
    knows = Predictor(with_novelty(bundle, samples))
    alike = knows.score(samples).units
    assert alike["novel"].mean() == pytest.approx(0.01, abs=0.01)
    assert not alike["note"].str.contains("unlike").any()
    strange = [replace(s, x=s.x * 5 + 10) for s in samples[:1]]  # far enough for an embedding that neighbours share in
    row = knows.score(strange).units.iloc[0]
    assert row["novel"] > 0.5
    assert "% of cells are unlike those of training" in row["note"]
    assert "novel" not in Predictor(bundle).score(samples).units


def test_scores_stand_at_the_rows_of_their_cells(bundle):
    """Rows of the file in another order: the same value for the same cell id."""
    adata = as_anndata(make_sample("new", "p", seed=50))
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    one, other = (Predictor(bundle).predict(a, um_per_unit=1.0).obs[keys.ATTENTION] for a in (adata, shuffled))
    assert np.allclose(one, other.reindex(one.index), atol=1e-6)


def test_a_backed_anndata_is_read_and_left_as_it_is(bundle, tmp_path):
    adata = as_anndata(make_sample("new", "p", seed=50))
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = read_h5ad(tmp_path / "a.h5ad", backed="r")
    scored, expected = (Predictor(bundle).predict(a, um_per_unit=1.0) for a in (backed, adata))
    assert np.array_equal(scored.obs[keys.POTENTIAL], expected.obs[keys.POTENTIAL], equal_nan=True)
    assert not scored.isbacked
    assert backed.isbacked


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


def test_pairs_that_a_sample_does_not_measure_stand_beside_its_risk(small_cohort, caplog):
    samples, patients, table = small_cohort
    pairs = pd.DataFrame({"ligand": ["CXCL12", "CD3E", "CD3E"], "receptor": ["CXCR4", "KRT8", "CXCR4"]})
    config = FitConfig("SeedSoil", {"width": 8}, epochs=1, pool="malignant", resource=Resource(pairs, "made up"))
    predictor = Predictor(fit_bundle(samples, make_targets(TASK, patients, table), config, **READ))
    own = predictor.score(samples).units
    assert (own["pair_coverage"] == 1).all()
    assert not own["note"].str.contains("pairs").any()
    adata = as_anndata(make_sample("new", "p", seed=50))[:, 1:]  # without CXCL12
    (row,) = predictor.predict(adata, um_per_unit=1.0).uns[keys.UNS]["units"].to_dict("records")
    assert row["pair_coverage"] == pytest.approx(2 / 3)
    assert "1 of 3 ligand-receptor pairs are not measured and count as silent ('CXCL12-CXCR4')" in row["note"]
    assert "count as silent" in caplog.text


def test_a_bundle_on_disk_says_the_same(bundle, tmp_path):
    sample = make_sample("new", "p", seed=50)
    read = load(bundle.save(tmp_path / "b"))
    pd.testing.assert_frame_equal(read.score([sample]).units, Predictor(bundle).score([sample]).units)


def test_unknown_units_are_asked_for(bundle):
    words = r"^new\.h5ad: expected um_per_unit.*Give um_per_unit \(on the command line: um_per_unit=0\.5\)"
    with pytest.raises(InputError, match=words):
        Predictor(bundle).prepare(as_anndata(make_sample("new", "p", seed=50)), where="new.h5ad")


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


def test_clinical_values_that_do_not_fit_are_refused_and_missing_ones_named(clinical_bundle):
    predictor, adata = Predictor(clinical_bundle), as_anndata(make_sample("new", "p7", seed=50))
    adata.obs[keys.PATIENT] = "p7"
    given = pd.DataFrame({"patient_id": ["p7", "other"], "age": [71.0, 50.0], "sex": ["f", "female"]})
    (row,) = predictor.predict(adata, um_per_unit=1.0, patients=given).uns[keys.UNS]["units"].to_dict("records")
    assert "clinical" not in row["note"]  # what others in the table have is of no concern
    with pytest.raises(InputError, match=r"in 'sex' 'f', 'm' or blank, found 'female'"):
        predictor.predict(adata, um_per_unit=1.0, patients=given.assign(sex="female"))
    (sample,) = predictor.prepare(adata, um_per_unit=1.0)
    note = predictor.score([sample], given.assign(sex="female", age=np.nan)).units["note"].iloc[0]
    assert note.endswith("not given: 'age'; clinical values unlike those of training, not used: 'sex=female'")


def test_a_mistake_in_the_data_names_the_new_data_and_not_the_training_cohort(bundle):
    adata = as_anndata(make_sample("new", "p", seed=50))
    adata.obsm[keys.SPATIAL][3] = np.nan
    with pytest.raises(InputError, match=r"^new\.h5ad, sample sample: expected obsm\['spatial'\] to be finite"):
        Predictor(bundle).prepare(adata, um_per_unit=1.0, where="new.h5ad")
    del adata.obs[keys.CELL_TYPE]
    with pytest.raises(InputError, match=r"^new\.h5ad: expected a column obs\['cell_type'\]"):
        Predictor(bundle).prepare(adata, um_per_unit=1.0, where="new.h5ad")


@pytest.mark.parametrize("floor", ["abc", "0.5", None, True, -0.1, 50, np.nan])
def test_a_floor_that_is_no_share_is_refused(bundle, floor):
    sample = make_sample("new", "p", seed=50)
    for scoring in (Predictor(bundle).predict, lambda s, **o: Predictor(bundle).score([s], **o)):
        with pytest.raises(ConfigError, match=r"coverage_floor to be a number from 0 to 1, found .*default is 0\.5"):
            scoring(sample, coverage_floor=floor)


def test_a_path_is_no_anndata_and_the_message_says_how_to_read_it(bundle):
    with pytest.raises(InputError, match=r"expected an AnnData, found str 'orig\.h5ad'.*read_sample"):
        Predictor(bundle).predict("orig.h5ad")


def test_a_text_where_the_record_belongs_is_refused_and_kept(bundle):
    adata = as_anndata(make_sample("new", "p", seed=50))
    adata.uns[keys.UNS] = "text"
    with pytest.raises(
        InputError, match=r"adata: expected uns\['metaniche'\] to be metaniche's record.*found str 'text'"
    ):
        Predictor(bundle).predict(adata, um_per_unit=1.0)
    assert adata.uns[keys.UNS] == "text"


def test_an_alias_for_a_type_that_the_bundle_does_not_know_is_refused(bundle):
    adata = as_anndata(make_sample("new", "p", seed=50))
    adata.obs[keys.CELL_TYPE] = adata.obs[keys.CELL_TYPE].cat.rename_categories({"malignant": "tumour"})
    with pytest.raises(
        InputError, match=r"type_aliases: expected types of the bundle, found 'Malignant'.*mean 'malignant'"
    ):
        Predictor(bundle).predict(adata, um_per_unit=1.0, type_aliases={"tumour": "Malignant"})


def test_another_feature_kind_is_refused(bundle):
    adata = as_anndata(make_sample("new", "p", seed=50))
    adata.uns[keys.UNS] = {keys.FEATURE_KIND: "counts"}
    with pytest.raises(InputError, match=r"adata: expected features of kind 'intensity'.*found 'counts'"):
        Predictor(bundle).predict(adata, um_per_unit=1.0)
    adata.uns[keys.UNS] = {keys.FEATURE_KIND: "intensity"}
    assert Predictor(bundle).predict(adata, um_per_unit=1.0) is not None


def test_cells_without_any_neighbour_are_refused_where_the_network_needs_them(bundle):
    adata = as_anndata(make_sample("new", "p", seed=50))
    adata.obsm[keys.SPATIAL] = np.stack(np.meshgrid(np.arange(10), np.arange(8)), -1).reshape(-1, 2) * 200.0
    with pytest.raises(
        InputError, match=r"adata, sample sample: expected cells with neighbours within 150 um.*none among 80"
    ):
        Predictor(bundle).predict(adata, um_per_unit=1.0)
    without = replace(
        bundle,
        architecture="AttentionMIL",
        states=[{k: v for k, v in s.items() if k.split(".")[0] in ("embed", "pool")} for s in bundle.states],
    )
    assert Predictor(without).prepare(adata, um_per_unit=1.0)


PANEL = tuple(f"M{i}" for i in range(10))


def test_another_platform_counts_what_it_shares_and_nothing_else(bundle, small_cohort):
    """Six of ten markers in another order among three others, and pixels for micrometres: as the six markers alone."""
    _, patients, table = small_cohort
    trained_on = [make_sample(f"s{i}", f"p{i}", signal=3.0 * (i % 2), seed=i, markers=PANEL) for i in range(12)]
    config = FitConfig(
        parameters={"width": 8}, features=FeatureConfig(), epochs=1, sampling=SamplingConfig(windows=1, window_cells=40)
    )
    predictor = Predictor(fit_bundle(trained_on, make_targets(TASK, patients, table), config, **READ))
    whole = as_anndata(make_sample("new", "p", seed=50, markers=PANEL, n_cells=120))
    shared = whole[:, list(PANEL[2:8])].copy()
    other = whole[:, ["M9", "M4", "M2", "M0", "M7", "M3", "M6", "M1", "M5"]].copy()
    other.var_names = ["X9", "M4", "M2", "X0", "M7", "M3", "M6", "X1", "M5"]
    other.obsm[keys.SPATIAL] = other.obsm[keys.SPATIAL] / 0.377
    alone, scored = predictor.predict(shared, um_per_unit=1.0), predictor.predict(other, um_per_unit=0.377)
    assert scored.uns[keys.UNS]["units"]["coverage"].tolist() == [0.6]
    assert scored.uns[keys.UNS]["units"]["note"].tolist() == [""]
    np.testing.assert_allclose(scored.obs[keys.POTENTIAL], alone.obs[keys.POTENTIAL], atol=1e-5)


def test_values_off_the_scale_of_the_training_stand_in_the_note(bundle, caplog):
    adata = as_anndata(make_sample("new", "p", seed=50, n_cells=120))
    assert Predictor(bundle).predict(adata, um_per_unit=1.0).uns[keys.UNS]["units"]["note"].tolist() == [""]
    assert "sd from" not in caplog.text
    adata.X = adata.X * 1000
    note = Predictor(bundle).predict(adata, um_per_unit=1.0).uns[keys.UNS]["units"]["note"].iloc[0]
    assert "100 % of features lie more than 2 sd from the training mean ('CXCL12'" in note
    assert note in caplog.text


@pytest.mark.parametrize("n_cells", [3, 40])
def test_few_cells_stand_in_the_note(bundle, n_cells, caplog):
    out = Predictor(bundle).predict(as_anndata(make_sample("new", "p", seed=50, n_cells=n_cells)), um_per_unit=1.0)
    assert f"only {n_cells} cells, fewer than 100" in out.uns[keys.UNS]["units"]["note"].iloc[0]
    assert f"only {n_cells} cells" in caplog.text


@pytest.mark.parametrize(
    ("pool", "words"), [("all", "the risk is of the other cells"), ("malignant", "all cells were pooled")]
)
def test_a_risk_without_a_malignant_cell_says_of_what_it_is(bundle, pool, words):
    adata = as_anndata(make_sample("new", "p", seed=50))
    healthy = adata[adata.obs[keys.CELL_TYPE] != "malignant"].copy()
    out = Predictor(replace(bundle, pool=pool)).predict(healthy, um_per_unit=1.0)
    assert f"no malignant cell: {words}" in out.uns[keys.UNS]["units"]["note"].iloc[0]


def test_a_prediction_carries_its_calibration_and_its_parameters(bundle, tmp_path):
    adata = as_anndata(make_sample("new", "p", seed=50))
    calibrated = replace(bundle, calibration={"temperature": 1.5, "n_calibration": 12})
    aliases = {"T / NK": "t_cell"}
    out = Predictor(calibrated, "cpu").predict(adata, um_per_unit=1.0, coverage_floor=0.3, type_aliases=aliases)
    write_sample(out, tmp_path / "out.h5ad")
    about = read_sample(tmp_path / "out.h5ad").uns[keys.UNS]
    assert about["calibration"] == "temperature on n=12"
    used = {"pool": "all", "graph": asdict(GRAPH), "coverage_floor": 0.3, "type_aliases": aliases}
    assert json.loads(about["parameters"]) == used | {"device": "cpu"}
    assert Predictor(bundle).calibration.startswith("none: those held out in training were too few")
    survival = Predictor(replace(bundle, task=bundle.task | {"kind": "cox", "time": "time", "event": "event"}))
    assert (
        survival.calibration == "none: log-hazards as they are, which lie too far apart where training was overfitted"
    )


def test_on_an_accelerator_it_says_the_same(bundle, small_cohort):
    here = Predictor(bundle, "cpu").score(small_cohort[0])
    with accelerator():
        there = Predictor(bundle, ELSEWHERE).score(small_cohort[0])
    for own, other in zip((here.units, here.cells, here.clones), (there.units, there.cells, there.clones), strict=True):
        pd.testing.assert_frame_equal(own, other, check_exact=True)
    assert all(np.array_equal(there.embedding[name], cells) for name, cells in here.embedding.items())


def test_what_does_not_fit_into_its_memory_is_scored_on_the_cpu(bundle, small_cohort, caplog, monkeypatch):
    here = Predictor(bundle, "cpu").score(small_cohort[0][:2])
    with accelerator():
        predictor = Predictor(bundle, ELSEWHERE)
        kind, forward = type(predictor.members[0]), type(predictor.members[0]).forward

        def full(network, x, *others):
            if x.device == ELSEWHERE:
                raise torch.OutOfMemoryError
            return forward(network, x, *others)

        monkeypatch.setattr(kind, "forward", full)
        there = predictor.score(small_cohort[0][:2])
    for own, other in ((here.units, there.units), (here.cells, there.cells)):
        pd.testing.assert_frame_equal(own, other, check_exact=True)
    assert "A unit of 80 cells does not fit into the memory of meta: done on the CPU" in caplog.text
