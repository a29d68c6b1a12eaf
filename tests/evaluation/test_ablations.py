import pandas as pd
import pytest
from tissue import COHORT, GRAPH

from metaniche.errors import ConfigError
from metaniche.evaluation.ablations import PARTS, SHUFFLED_PAIRS, ablations
from metaniche.evaluation.network import NetworkEstimator
from metaniche.evaluation.tissue_controls import TISSUES
from metaniche.signaling import Resource
from metaniche.training.fit import FitConfig

RESOURCE = Resource(pd.DataFrame({"ligand": ["CXCL12"], "receptor": ["CXCR4"]}), "made up")
NETWORK = NetworkEstimator("net", FitConfig("SeedSoil", {"width": 8}, resource=RESOURCE), GRAPH, COHORT)


def test_each_part_is_taken_away_once():
    made = {each.name.removeprefix("net, "): each for each in ablations(NETWORK)}
    assert set(made) == {*PARTS, SHUFFLED_PAIRS, *TISSUES}
    assert len({repr(each) for each in [NETWORK, *made.values()]}) == len(made) + 1
    assert made["no soil"].config.parameters == {"width": 8, "soil": False}
    assert made[SHUFFLED_PAIRS].config.shuffle_pairs
    assert made["random edges"].tissue == "random edges"


def test_what_has_no_terms_has_no_ablations():
    with pytest.raises(ConfigError, match="SeedSoil"):
        ablations(NetworkEstimator("net", FitConfig(), GRAPH, COHORT))


def test_without_a_resource_there_are_no_pairs_to_shuffle():
    deaf = NetworkEstimator("net", FitConfig("SeedSoil"), GRAPH, COHORT)
    assert SHUFFLED_PAIRS not in {each.name.removeprefix("net, ") for each in ablations(deaf)}
