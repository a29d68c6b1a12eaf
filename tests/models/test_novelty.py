import json

import numpy as np
import pytest

from metaniche.models.novelty import Novelty


def cells(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(6, 6))
    return rng.normal(size=(n, 6)) @ mix + 3, mix


def test_of_training_tissue_one_in_a_hundred_is_beyond_the_limit():
    train, mix = cells()
    novelty = Novelty.fit(train)
    assert novelty.share(train) == pytest.approx(0.01, abs=0.001)
    same = np.random.default_rng(1).normal(size=(4000, 6)) @ mix + 3
    assert novelty.share(same) < 0.03
    assert novelty.share(same + 8 * mix[0]) > 0.9


def test_distance_counts_what_is_rare_not_what_is_large():
    """A step along the direction of most variance is less new than one of the same length along that of least."""
    train, _ = cells()
    values, vectors = np.linalg.eigh(np.cov(train.T))
    novelty = Novelty.fit(train)
    step = 3 * np.sqrt(values[-1])
    assert novelty.share(train + step * vectors[:, 0]) > novelty.share(train + step * vectors[:, -1])


def test_it_travels_as_json():
    train, _ = cells()
    novelty = Novelty.fit(train)
    back = Novelty.from_state(json.loads(json.dumps(novelty.state())))
    assert back.share(train * 1.3) == novelty.share(train * 1.3)


def test_a_column_that_does_not_vary_breaks_nothing():
    train, _ = cells()
    train[:, 2] = 1.0
    assert np.isfinite(Novelty.fit(train).whiten).all()
