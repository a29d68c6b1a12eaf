import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tissue import READ, make_sample

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.predict import Predictor
from metaniche.signaling import Resource
from metaniche.training.fit import FitConfig, fit_bundle

TASK = Task("t", "a task", label="metastasis", positive=(1,))
RESOURCE = Resource(
    pd.DataFrame(
        {
            "ligand": ["CXCL12", "CXCL12", "KRT8", "CD3E"],
            "receptor": ["CXCR4", "CD3E", "CXCR4", "KRT8"],
            "signaling_type": ["secreted", "contact", "secreted", None],
        }
    ),
    "made up",
)


@pytest.fixture(scope="session")
def hearing(small_cohort):
    """A Predictor of two networks that hear four pairs; weights of pairs differ."""
    samples, patients, table = small_cohort
    config = FitConfig(
        "SeedSoil", {"width": 8}, features=FeatureConfig(), members=2, epochs=2, resource=RESOURCE,
        sampling=SamplingConfig(windows=1, window_cells=80),
    )  # fmt: skip
    predictor = Predictor(fit_bundle(samples, make_targets(TASK, patients, table), config, **READ))
    torch.manual_seed(0)
    for network in predictor.members:
        for listen in network.families.values():
            torch.nn.init.normal_(listen.raw_weight, std=0.2)
    return predictor


@pytest.fixture
def one_voice(hearing):
    """All weight on one pair, so that its place in the order decides."""
    return _voiced(hearing, 2), 2


@pytest.fixture(scope="session")
def one_of_many(small_cohort):
    """A Predictor that hears one of eight pairs, none of which share a gene, and samples in which it tells patients apart."""
    _, patients, table = small_cohort
    genes = [f"G{i}" for i in range(16)]
    pairs = pd.DataFrame({"ligand": genes[:8], "receptor": genes[8:], "signaling_type": "secreted"})
    samples = [make_sample(f"s{i}", f"p{i}", signal=3.0 * (i % 2), seed=i, markers=genes) for i in range(12)]
    config = FitConfig(
        "SeedSoil", {"width": 8}, features=FeatureConfig(), epochs=1, resource=Resource(pairs, "made up"),
        sampling=SamplingConfig(windows=1, window_cells=40),
    )  # fmt: skip
    predictor = Predictor(fit_bundle(samples, make_targets(TASK, patients, table), config, **READ))
    return _voiced(predictor, int(np.flatnonzero(predictor.pairs.pairs["ligand"] == "G0")[0])), samples


def _voiced(predictor, loud):
    """A copy that listens to this pair only, and has neither seed nor soil."""
    predictor = copy.deepcopy(predictor)
    family = predictor.pairs.pairs["signaling_type"][loud]
    place = int((predictor.pairs.pairs["signaling_type"][:loud] == family).sum())
    with torch.no_grad():
        for network in predictor.members:
            network.pool.score.requires_grad_(False)[-1].weight.zero_()
            network.of_soil[-1].weight.zero_()
            of_family = network.of_signals.weight.view(-1, len(network.families), network.heads)
            for number, (name, listen) in enumerate(network.families.items()):
                listen.raw_weight.zero_()
                if name == family:
                    listen.raw_weight[:, place] = 0.2
                else:
                    of_family[:, number] = 0.0
    states = [network.state_dict() for network in predictor.members]
    return Predictor(replace(predictor.bundle, states=states))
