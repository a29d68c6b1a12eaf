import copy

import pandas as pd
import pytest
import torch
from tissue import READ

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
    loud, hearing = 2, copy.deepcopy(hearing)
    family = hearing.pairs.pairs["signaling_type"][loud]
    place = int((hearing.pairs.pairs["signaling_type"][:loud] == family).sum())
    with torch.no_grad():
        for network in hearing.members:
            network.pool.score.requires_grad_(False)[-1].weight.zero_()
            network.of_soil[-1].weight.zero_()
            for name, listen in network.families.items():
                listen.raw_weight.zero_()
                listen.scale.fill_(1e-3)
                if name == family:
                    listen.raw_weight[:, place] = 0.2
                    listen.scale[place] = 1.0
    return hearing, loud
