import pytest

from metaniche.data.sampling import SamplingConfig
from metaniche.errors import SplitError
from metaniche.training.datamodule import TumourDataModule


def test_a_patient_on_both_sides_is_refused():
    with pytest.raises(SplitError, match="p1"):
        TumourDataModule(
            [], [], train_patients=["p0", "p1"], val_patients=["p1"], sampling=SamplingConfig(), seed=0, hops=1
        )
