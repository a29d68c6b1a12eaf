from dataclasses import replace

import pytest
import torch
from tissue import make_sample

from metaniche.errors import ConfigError
from metaniche.signaling import DECAYS, SignalConfig, graph_within


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"score": "sum"}, "signaling.score"),
        ({"null_model": "cells"}, "signaling.null_model"),
        ({"score": "mass_action"}, "n_permutations"),
        ({"null_model": "shifts"}, "such as 999"),
        ({"null_model": "matched_pairs"}, "such as 999"),
        ({"null_model": "matched_pairs", "n_permutations": 9, "score": "hill"}, "take score=product"),
        ({"complexes": "mean"}, "signaling.complexes"),
        ({"seed": -1}, "signaling.seed"),
        ({"n_permutations": 1.5}, "signaling.n_permutations"),
        ({"min_share": 1.0}, "min_share"),
        ({"half_saturation": 0.0}, "half_saturation"),
        ({"decays": {"secret": {}}}, "secret"),
        ({"decays": {"ecm": {"length": 3}}}, "length_um"),
        ({"decays": {"ecm": {"kind": "linear"}}}, "a decay of kind"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        SignalConfig(**settings)


def test_decays_are_the_defaults_but_for_what_is_changed():
    config = SignalConfig(decays={"ecm": {"length_um": 5.0}})
    assert config.decay("ecm").length_um == 5.0
    assert config.decay("ecm").kind == DECAYS["ecm"].kind
    assert config.decay("contact") == DECAYS["contact"]
    with pytest.raises(ConfigError, match="a signaling type in"):
        config.decay("smell")


@pytest.mark.parametrize(("reach_um", "contact_um"), [(10.0, 5.0), (40.0, 20.0), (300.0, 20.0)])
def test_the_graph_within_a_reach_has_all_neighbours_and_a_contact_below_it(reach_um, contact_um):
    graph = graph_within(reach_um)
    assert (graph.radius_um, graph.contact_um, graph.max_paracrine) == (reach_um, contact_um, None)


def test_an_edge_weighs_its_decay_times_the_neighbours_it_stands_for():
    graph = make_sample("s", "p").graph
    config = SignalConfig(decays={"secreted": {"length_um": 30.0}})
    decay = torch.exp(-graph.distance_um / 30)
    torch.testing.assert_close(config.edge_weights("secreted", graph), decay * graph.weight)
    torch.testing.assert_close(config.edge_weights("secreted", replace(graph, weight=None)), decay)
