from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tissue import TYPES, make_sample

from metaniche.data.features import FeatureConfig, Features
from metaniche.errors import ConfigError, InputError

EXPRESSION = FeatureConfig(use_types=False)


def cohort(kind="intensity", n=4):
    return [make_sample(f"s{i}", f"p{i}", seed=i, kind=kind) for i in range(n)]


def test_training_cells_are_standardised():
    samples = cohort()
    x = np.concatenate([Features.fit(samples, EXPRESSION).transform(s) for s in samples])
    assert np.allclose(x.mean(0), 0, atol=1e-4)
    assert np.allclose(x.std(0), 1, atol=1e-3)


def test_every_type_is_a_column_and_unknown_types_are_zero():
    samples = cohort("none")
    features = Features.fit(samples[:2], FeatureConfig())
    assert features.names == TYPES
    renamed = samples[2].cells.assign(
        cell_type=samples[2].cells["cell_type"].cat.rename_categories({"caf": "myofibroblast"})
    )
    other = replace(samples[2], cells=renamed)
    x = features.transform(other)
    is_new = (renamed["cell_type"] == "myofibroblast").to_numpy()
    assert (x[is_new] == 0).all()
    assert np.array_equal(np.asarray(TYPES)[x[~is_new].argmax(1)], np.asarray(renamed["cell_type"])[~is_new])
    assert features.coverage(other) == pytest.approx((~is_new).mean())


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.sampled_from(["counts", "intensity"]), st.sampled_from([0, 2]))
def test_the_order_of_a_panel_does_not_matter(order, kind, n_components):
    features = Features.fit(cohort(kind), FeatureConfig(n_components=n_components))
    sample = make_sample("new", "p9", seed=9, kind=kind)
    shuffled = replace(sample, x=sample.x[:, order], features=tuple(sample.features[i] for i in order))
    assert np.array_equal(features.transform(sample), features.transform(shuffled))


def test_a_missing_marker_reads_as_the_training_mean_not_as_zero():
    features = Features.fit(cohort(), EXPRESSION)
    sample = make_sample("new", "p9", seed=9)
    without = replace(sample, x=sample.x[:, 1:], features=sample.features[1:])
    x = features.transform(without)
    assert (x[:, 0] == 0).all()
    assert np.array_equal(x[:, 1:], features.transform(sample)[:, 1:])
    assert features.coverage(without) == pytest.approx(3 / 4)


def larger(sample, n_more=12):
    """The sample on a panel with other genes, as loud as its own."""
    more = np.random.default_rng(1).poisson(sample.x.mean(), (sample.n_cells, n_more)).astype(np.float32)
    names = (*sample.features, *(f"X{i}" for i in range(n_more)))
    return replace(sample, x=np.concatenate([sample.x, more], axis=1), features=names)


@pytest.mark.parametrize("layout", [np.asarray, sparse.csr_array])
def test_a_larger_panel_reads_as_that_of_training_to_the_bit(layout):
    """In new samples, and in some of the training ones."""
    samples, sample = cohort("counts"), make_sample("new", "p9", seed=9, kind="counts")
    features = Features.fit(samples, FeatureConfig(n_top=3, gene_sets={"s": ["CXCL12", "CXCR4", "KRT8"]}))
    other = larger(sample)
    other = replace(other, x=layout(other.x))
    np.testing.assert_array_equal(features.transform(other), features.transform(sample))
    mixed = Features.fit([larger(samples[0]), *samples[1:]], features.config)
    np.testing.assert_array_equal(mixed.transform(sample), features.transform(sample))


def test_a_bundle_of_before_takes_libraries_over_what_is_measured():
    samples = cohort("counts")
    features = Features.fit(samples, EXPRESSION)
    state = {k: v for k, v in features.state().items() if k != "panel"}
    old = Features.from_state(state, {k: v for k, v in features.arrays.items() if k != "panel_share"})
    np.testing.assert_array_equal(old.transform(samples[0]), features.transform(samples[0]))
    assert (old.transform(larger(samples[0])).mean(0) < old.transform(samples[0]).mean(0)).all()
    with pytest.raises(ConfigError, match="panel"):
        Features.from_state(features.state(), old.arrays)


def test_counts_are_normalised_cell_by_cell():
    features = Features.fit(cohort("counts"), EXPRESSION)
    sample = make_sample("new", "p9", seed=9, kind="counts")
    deeper = replace(sample, x=sample.x * 7)
    assert np.allclose(features.transform(sample), features.transform(deeper), atol=1e-5)


def test_sparse_and_dense_counts_agree():
    dense = cohort("counts")
    thin = [replace(s, x=sparse.csr_array(s.x)) for s in dense]
    config = FeatureConfig(n_top=3)
    one, other = Features.fit(dense, config), Features.fit(thin, config)
    assert one.genes == other.genes
    assert np.allclose(one.transform(dense[0]), other.transform(thin[0]), atol=1e-5)


def test_only_the_fitted_samples_are_looked_at():
    samples = cohort()
    spoilt = [*samples[:3], replace(samples[3], x=samples[3].x * 1e6)]
    one, other = Features.fit(samples[:3], EXPRESSION), Features.fit(spoilt[:3], EXPRESSION)
    assert all(np.array_equal(one.arrays[k], other.arrays[k]) for k in one.arrays)
    assert not np.array_equal(Features.fit(spoilt, EXPRESSION).arrays["mean"], one.arrays["mean"])


def test_the_most_variable_features_are_kept():
    panel = tuple(f"g{i}" for i in range(30))
    samples = [make_sample(f"s{i}", f"p{i}", seed=i, markers=panel) for i in range(3)]
    for s in samples:
        s.x[:, 17] = np.where(np.arange(len(s.x)) % 2, 0.01, 50.0)
    assert Features.fit(samples, FeatureConfig(use_types=False, n_top=1)).genes == ("g17",)


def test_every_patient_weighs_the_same_in_the_fit(monkeypatch):
    monkeypatch.setattr("metaniche.data.features.FIT_CELLS", 60)
    dim, bright = make_sample("a", "p0", signal=0.0, seed=1), make_sample("b", "p1", signal=100.0, seed=2)
    slides = [dim, *(replace(bright, sample_id=f"b{i}") for i in range(3))]
    config = replace(EXPRESSION, n_top=0)
    means = [Features.fit(panel, config).arrays["mean"][0] for panel in (slides, [dim, bright])]
    assert means[0] == pytest.approx(means[1], rel=0.1)


STATES = {"bright": ["g0", "g1", "g2", "NOT MEASURED"], "dim": ["g3", "g4", "g5"], "absent": ["X", "Y", "Z"]}


@pytest.mark.parametrize("kind", ["counts", "intensity"])
def test_a_state_is_the_mean_of_its_standardised_genes_whatever_else_is_kept(kind, caplog):
    panel = tuple(f"g{i}" for i in range(12))
    samples = [make_sample(f"s{i}", f"p{i}", seed=i, kind=kind, markers=panel) for i in range(3)]
    config = FeatureConfig(use_types=False, n_top=4, n_components=2, gene_sets=STATES)
    with caplog.at_level("INFO"):
        features = Features.fit(samples, config)
    assert features.names == ("PC1", "PC2", "state: bright", "state: dim")
    assert "absent (0 of 3)" in caplog.text
    all_genes = Features.fit(samples, FeatureConfig(use_types=False))
    scaled = np.concatenate([all_genes.transform(s) for s in samples])
    expected = np.stack([scaled[:, :3].mean(1), scaled[:, 3:6].mean(1)], 1)
    expected = (expected - expected.mean(0)) / expected.std(0)
    found = np.concatenate([features.transform(s)[:, 2:] for s in samples])
    np.testing.assert_allclose(found, np.clip(expected, -8, 8), atol=1e-3)
    shuffled = replace(samples[0], x=samples[0].x[:, ::-1], features=samples[0].features[::-1])
    np.testing.assert_allclose(features.state_scores(shuffled), features.state_scores(samples[0]), atol=1e-6)
    again = Features.from_state(features.state(), features.arrays)
    assert np.array_equal(again.transform(samples[1]), features.transform(samples[1]))


def test_a_gene_of_a_state_that_is_not_measured_reads_as_the_training_mean():
    panel = tuple(f"g{i}" for i in range(6))
    samples = [make_sample(f"s{i}", f"p{i}", seed=i, markers=panel) for i in range(3)]
    features = Features.fit(samples, FeatureConfig(use_types=False, gene_sets={"one": ["g0", "g1", "g2"]}))
    silent = replace(samples[0], x=samples[0].x[:, 3:], features=samples[0].features[3:])
    assert features.coverages(silent)["states"] == 0
    assert features.coverages(samples[0])["states"] == 1
    centre = -features.arrays["state_centre"] / features.arrays["state_spread"]
    np.testing.assert_allclose(features.state_scores(silent), np.tile(centre, (silent.n_cells, 1)), atol=1e-5)


def test_states_without_any_measured_feature_are_said(caplog):
    Features.fit(cohort("none"), FeatureConfig(gene_sets=STATES))
    assert "Cell states are not scored" in caplog.text


def test_state_round_trip():
    features = Features.fit(cohort(), FeatureConfig(n_components=2))
    again = Features.from_state(features.state(), features.arrays)
    sample = make_sample("new", "p9", seed=9)
    assert np.array_equal(features.transform(sample), again.transform(sample))
    with pytest.raises(ConfigError, match="state of Features"):
        Features.from_state({"kind": "counts"}, {})


def test_nothing_to_use_is_an_error():
    with pytest.raises(InputError, match="found neither"):
        Features.fit(cohort("none"), EXPRESSION)
    with pytest.raises(InputError, match="one feature kind"):
        Features.fit([make_sample("a", "p", kind="counts"), make_sample("b", "q")], EXPRESSION)
    with pytest.raises(InputError, match="none in common"):
        Features.fit([make_sample("a", "p"), make_sample("b", "q", markers=("w", "x", "y", "z"))], EXPRESSION)
    blank = replace(make_sample("a", "p"), x=np.zeros((80, 4), np.float32))
    with pytest.raises(InputError, match="vary"):
        Features.fit([blank], EXPRESSION)
