from dataclasses import replace

import pandas as pd
import pytest
import torch
from elsewhere import ELSEWHERE, accelerator

from metaniche import communicate as communicate_module
from metaniche.communicate import (
    communicate_sample,
    compete_sample,
    competition_analysis,
    relay_analysis,
    relay_sample,
    signal_analysis,
    table_of_cohort,
    within,
)
from metaniche.data.prepare import prepare
from metaniche.data.synthetic import SyntheticConfig, generate, resource
from metaniche.errors import InputError
from metaniche.io import keys
from metaniche.signaling import GRAPH, Resource, SignalConfig

CONFIG = SyntheticConfig(n_patients=6, n_cells=300, max_samples=2)


@pytest.fixture(scope="module")
def synthetic():
    return generate(CONFIG)


@pytest.fixture(scope="module")
def cohort(synthetic, tmp_path_factory):
    return prepare(synthetic.cohort(), GRAPH, tmp_path_factory.mktemp("prepared"), progress=False)


def test_a_cohort_is_one_table_and_what_is_there_is_not_made_again(cohort, tmp_path, monkeypatch):
    table, left_out = table_of_cohort(cohort, signal_analysis(resource()), tmp_path)
    assert set(table[keys.SAMPLE]) == set(cohort.samples.index)
    assert not left_out
    owner = cohort.samples[keys.PATIENT]
    assert (table[keys.PATIENT] == table[keys.SAMPLE].map(owner)).all()
    monkeypatch.setattr("metaniche.communicate.communicate_sample", None)
    again, _ = table_of_cohort(cohort, signal_analysis(resource()), tmp_path)
    pd.testing.assert_frame_equal(again, table)
    with pytest.raises(TypeError):  # another null is another table
        table_of_cohort(cohort, signal_analysis(resource(), SignalConfig(null_model="labels")), tmp_path)


def test_samples_without_the_column_are_left_out_and_named(cohort, tmp_path):
    with pytest.raises(
        InputError, match=r"in any of \d+ samples, found none. Sample .*: no cell has a type in 'annotation'"
    ):
        table_of_cohort(cohort, signal_analysis(resource(), types="annotation"), tmp_path)


def test_a_column_that_is_not_there_is_named_with_the_nearest(cohort):
    sample = cohort.load(cohort.samples.index[0])
    with pytest.raises(InputError, match="Did you mean 'cell_type'"):
        communicate_sample(sample, resource(), types="cell_typ")


def test_a_sample_that_cannot_be_scored_is_named(cohort):
    sample = cohort.load(cohort.samples.index[0])
    with pytest.raises(InputError, match=f"Sample {sample.sample_id}: Expected edges"):
        communicate_sample(
            sample,
            resource(),
            SignalConfig(decays={k: {"kind": "cut", "length_um": 0.01} for k in ("contact", "secreted")}),
        )


def test_other_types_than_cell_types(cohort):
    found = communicate_sample(cohort.load(cohort.samples.index[0]), resource(), SignalConfig(), types="region")
    assert set(found.table["sender"]) <= {"core", "front", "stroma"}
    assert len(found.table)


def test_a_large_sample_says_its_memory_first(cohort, caplog, monkeypatch):
    monkeypatch.setattr("metaniche.communicate.LARGE_BYTES", 1)
    communicate_sample(cohort.load(cohort.samples.index[0]), resource())
    assert "GB of memory" in caplog.text


LINKS = pd.DataFrame({"receptor": ["CXCR4"], "target": ["VEGFA"]})


def test_pairs_of_a_sample_compete_and_what_moves_is_shared(cohort):
    sample = cohort.load(cohort.samples.index[0])
    table = compete_sample(sample, resource(), 40.0)
    assert {"sender", "receiver", "amount", "share", "n_edges"} <= set(table)
    shares = table.groupby(["sender", "ligand"], observed=True)["share"].sum()
    assert (shares <= 1 + 1e-6).all()
    assert table["amount"].is_monotonic_decreasing
    by_region = compete_sample(sample, resource(), 40.0, types="region")
    assert by_region["amount"].sum() == pytest.approx(table["amount"].sum(), rel=1e-6)


def test_relays_of_a_sample_are_tested(cohort):
    table = relay_sample(cohort.load(cohort.samples.index[0]), resource(), LINKS)
    assert set(table["received_receptor"]) == {"CXCR4"}
    assert set(table["sent_ligand"]) == {"VEGFA"}
    assert ((table["p"] >= 0) & (table["p"] <= table["q"]) & (table["q"] <= 1)).all()


def test_competition_and_relays_of_a_cohort_are_kept_too(cohort, tmp_path, monkeypatch):
    flows, _ = table_of_cohort(cohort, competition_analysis(resource(), 40.0), tmp_path)
    chains, _ = table_of_cohort(cohort, relay_analysis(resource(), LINKS), tmp_path)
    for table in (flows, chains):
        assert list(table)[:2] == [keys.SAMPLE, keys.PATIENT]
        assert set(table[keys.SAMPLE]) == set(cohort.samples.index)
    for name in ("compete_sample", "relay_sample"):
        monkeypatch.setattr(f"metaniche.communicate.{name}", None)
    pd.testing.assert_frame_equal(table_of_cohort(cohort, competition_analysis(resource(), 40.0), tmp_path)[0], flows)
    pd.testing.assert_frame_equal(table_of_cohort(cohort, relay_analysis(resource(), LINKS), tmp_path)[0], chains)
    with pytest.raises(TypeError):  # another reach is another table
        table_of_cohort(cohort, competition_analysis(resource(), 30.0), tmp_path)


def test_a_sample_that_is_refused_is_left_out_and_the_others_stay(cohort, tmp_path, monkeypatch):
    bad = cohort.samples.index[1]
    plain = communicate_sample

    def refusing(sample, *rest):
        if sample.sample_id == bad:
            raise InputError("Expected more, found less.")
        return plain(sample, *rest)

    monkeypatch.setattr("metaniche.communicate.communicate_sample", refusing)
    table, left_out = table_of_cohort(cohort, signal_analysis(resource()), tmp_path)
    assert left_out == {bad: "Expected more, found less."}
    assert set(table[keys.SAMPLE]) == set(cohort.samples.index) - {bad}
    far = SignalConfig(decays={k: {"kind": "cut", "length_um": 0.01} for k in ("contact", "secreted")})
    with pytest.raises(
        InputError, match=f"any of {len(cohort.samples)} samples, found none. Sample .*: Expected edges"
    ):
        table_of_cohort(cohort, signal_analysis(resource(), far), tmp_path)


def test_a_sample_with_nothing_in_its_table_is_named_and_pairs_that_are_not_measured_are_said_once(
    cohort, tmp_path, monkeypatch, caplog
):
    quiet, plain = cohort.samples.index[1], communicate_sample

    def communicated(sample, *rest):
        found = plain(sample, *rest)
        return replace(found, table=found.table.head(0)) if sample.sample_id == quiet else found

    monkeypatch.setattr("metaniche.communicate.communicate_sample", communicated)
    pairs = resource().pairs
    more = Resource(pd.concat([pairs, pairs.head(1).assign(ligand="FOO", receptor="BAR")]), "more")
    with caplog.at_level("INFO"):
        table, left_out = table_of_cohort(cohort, signal_analysis(more), tmp_path)
    assert quiet not in set(table[keys.SAMPLE])
    assert left_out == {quiet: communicate_module.SILENT}
    assert f"1 of {len(cohort.samples)} samples have no row: '{quiet}'" in caplog.text
    assert caplog.text.count("1 lack a gene ('FOO - BAR')") == 1


def test_a_sample_in_which_no_cell_has_a_type_is_left_out(cohort, tmp_path):
    load, bare = cohort.load, cohort.samples.index[0]

    class Bare(type(cohort)):
        def load(self, sample_id):
            sample = load(sample_id)
            untyped = sample.cells.assign(cell_type=pd.Categorical([None] * sample.n_cells))
            return replace(sample, cells=untyped) if sample_id == bare else sample

    bare_cohort = Bare(**vars(cohort))
    table, left_out = table_of_cohort(bare_cohort, signal_analysis(resource()), tmp_path)
    assert left_out == {bare: "no cell has a type in 'cell_type'."}
    assert bare not in set(table[keys.SAMPLE])


def test_every_ingredient_of_a_table_makes_another_one(cohort, tmp_path):
    """What is kept of one setting must never be given back for another."""
    other = Resource(resource().pairs.iloc[:-1], "fewer")
    hill = SignalConfig(score="hill")
    analyses = [
        signal_analysis(resource()),
        signal_analysis(other),
        signal_analysis(resource(), hill),
        signal_analysis(resource(), types="region"),
        competition_analysis(resource(), 40.0),
        competition_analysis(other, 40.0),
        competition_analysis(resource(), 30.0),
        competition_analysis(resource(), 40.0, SignalConfig(complexes="geometric_mean")),
        competition_analysis(resource(), 40.0, types="region"),
        relay_analysis(resource(), LINKS),
        relay_analysis(other, LINKS),
        relay_analysis(resource(), pd.concat([LINKS, LINKS.assign(target="CCL5")])),
        relay_analysis(resource(), LINKS, hill),
        relay_analysis(resource(), LINKS, types="region"),
    ]
    for analysis in analyses:
        made = analysis._replace(make=lambda sample, progress: pd.DataFrame({"n": [sample.n_cells]}))
        table_of_cohort(cohort, made, tmp_path)
    assert len(list((tmp_path / "samples").iterdir())) == len(analyses)


def test_steps_within_a_sample_are_told(cohort, tmp_path):
    told = []
    shifts = SignalConfig(null_model="shifts", n_permutations=3)
    table_of_cohort(cohort, signal_analysis(resource(), shifts), tmp_path, lambda *a: told.append(a))
    first = cohort.samples.index[0]
    assert any(text.startswith(f"{first}: ") and "shifts" in text for _, _, text in told)
    assert within(None, 0, 1, "s") is None
    seen = []
    within(lambda *a: seen.append(a), 0, 1, "s")(3, 9, "shifts")
    assert seen == [(3, 9, "s: shifts")]


NULLS = [
    {"null_model": "positions"},
    {"null_model": "positions", "n_permutations": 5, "score": "mass_action"},
    {"null_model": "labels", "score": "hill"},
    {"null_model": "labels", "n_permutations": 5, "score": "geometric_mean"},
    {"null_model": "shifts", "n_permutations": 5, "complexes": "geometric_mean"},
    {"null_model": "matched_pairs", "n_permutations": 5},
    {"null_model": "none"},
]


def assert_close(found, expected):
    """Up to the last digits of float32, by which rows with about the same p may change places."""
    names = [c for c in expected if expected[c].dtype.kind not in "fi"]
    found, expected = (table.sort_values(names, ignore_index=True) for table in (found, expected))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("how", NULLS, ids=lambda how: " ".join(map(str, how.values())))
def test_on_an_accelerator_signals_are_the_same(cohort, how):
    asked = cohort.load(cohort.samples.index[0]), resource(), SignalConfig(**how)
    here = communicate_sample(*asked, device="cpu")
    with accelerator():
        there = communicate_sample(*asked, device=ELSEWHERE)
    assert_close(there.table, here.table)
    for side in ("sent", "received"):
        pd.testing.assert_frame_equal(getattr(there, side), getattr(here, side), rtol=1e-5)
    assert there.provenance == here.provenance


SHIFTS = SignalConfig(null_model="shifts", n_permutations=5)


@pytest.mark.parametrize(
    ("of_sample", "asked"),
    [(compete_sample, (20.0,)), (relay_sample, (LINKS,)), (relay_sample, (LINKS, SHIFTS))],
    ids=["competition", "relays", "relays, shifts"],
)
def test_on_an_accelerator_competition_and_relays_are_the_same(cohort, of_sample, asked):
    sample = cohort.load(cohort.samples.index[0])
    here = of_sample(sample, resource(), *asked, device="cpu")
    with accelerator():
        there = of_sample(sample, resource(), *asked, device=ELSEWHERE)
    assert_close(there, here)


def test_a_sample_that_does_not_fit_there_is_done_on_the_cpu(cohort, monkeypatch, caplog):
    sample = cohort.load(cohort.samples.index[0])
    here, communicate = communicate_sample(sample, resource(), device="cpu"), communicate_module.communicate

    def full(x, features, types, graph, *others):
        if graph.pos_um.device == ELSEWHERE:
            raise torch.OutOfMemoryError
        return communicate(x, features, types, graph, *others)

    monkeypatch.setattr(communicate_module, "communicate", full)
    with accelerator():
        there = communicate_sample(sample, resource(), device=ELSEWHERE)
    pd.testing.assert_frame_equal(there.table, here.table)
    assert f"Sample {sample.sample_id} of {sample.n_cells} cells does not fit into the memory of meta" in caplog.text
