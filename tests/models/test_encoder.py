import json
from dataclasses import replace

import pytest
import torch
from tissue import make_sample

from metaniche.data.features import FeatureConfig, Features
from metaniche.errors import CheckpointError, ConfigError, InputError
from metaniche.io.once import log_once
from metaniche.models import AttentionMIL
from metaniche.models.encoder import ABOUT, SEEN, WEIGHTS, Encoder, seen

NAMES = ("a", "b", "c", "d")


def network(n_features=4, width=8, seed=0):
    torch.manual_seed(seed)
    return AttentionMIL(n_features, 1, width=width).eval()


@pytest.fixture
def encoder():
    return Encoder(NAMES, network().embed.state_dict(), {"cohort": "made up"})


def test_what_was_saved_is_read_back(encoder, tmp_path):
    back = Encoder.load(encoder.save(tmp_path / "e"))
    assert (back.names, back.sha256, back.about) == (encoder.names, encoder.sha256, encoder.about)
    assert all(torch.equal(back.state[k], v) for k, v in encoder.state.items())


def test_features_are_found_by_name(encoder):
    other = network(seed=1)
    x = torch.randn(10, 4)
    assert encoder.give_to(other, ("d", "b", "a", "c")) == 1.0
    torch.testing.assert_close(other.embed(x[:, [3, 1, 0, 2]]), network().embed(x))


def test_unknown_features_keep_their_columns(encoder):
    other = network(n_features=3, seed=1)
    before = other.embed[0].weight.clone()
    assert encoder.give_to(other, ("new", "c", "a")) == pytest.approx(2 / 3)
    assert torch.equal(other.embed[0].weight[:, 0], before[:, 0])
    assert torch.equal(other.embed[0].weight[:, 1], encoder.state["0.weight"][:, 2])


def test_another_width_or_another_panel_is_refused(encoder):
    with pytest.raises(ConfigError, match=r"Set model\.width=8"):
        encoder.give_to(network(width=16), NAMES)
    with pytest.raises(ConfigError, match="found none"):
        encoder.give_to(network(), ("w", "x", "y", "z"))


def test_a_damaged_encoder_is_refused(encoder, tmp_path):
    folder = encoder.save(tmp_path / "e")
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps(about | {"names": ["a", "b", "d", "c"]}))
    with pytest.raises(CheckpointError, match="its own sha256"):
        Encoder.load(folder)
    (folder / WEIGHTS).write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"pretrain\.only=true"):
        Encoder.load(folder)
    with pytest.raises(CheckpointError, match="FileNotFoundError"):
        Encoder.load(tmp_path / "nowhere")


def test_components_of_another_fit_are_refused_though_they_bear_the_same_names(tmp_path):
    samples = [make_sample(f"s{i}", f"p{i}", seed=i) for i in range(6)]
    config = FeatureConfig(use_types=True, n_components=2)
    own, other = (Features.fit(side, config) for side in (samples[:3], samples[3:]))
    assert own.names == other.names
    assert own.basis == Features.fit(samples[:3], config).basis != other.basis
    assert Features.fit(samples, FeatureConfig()).basis is None
    encoder = Encoder(own.names, network(5).embed.state_dict(), {}, own.basis)
    encoder = Encoder.load(encoder.save(tmp_path / "e"))
    assert encoder.give_to(network(5, seed=1), own.names, own.basis) == 1.0
    with pytest.raises(ConfigError, match=r"'PC1', 'PC2' of another fit.*data\.features\.n_components=0"):
        encoder.give_to(network(5, seed=1), other.names, other.basis)
    about = json.loads((tmp_path / "e" / ABOUT).read_text())  # one of before did not say
    before = Encoder(own.names, encoder.state)
    (tmp_path / "e" / ABOUT).write_text(
        json.dumps({k: v for k, v in about.items() if k != "basis"} | {"sha256": before.sha256})
    )
    with pytest.raises(ConfigError, match="of another fit"):
        Encoder.load(tmp_path / "e").give_to(network(5, seed=1), own.names, own.basis)
    assert encoder.give_to(network(4, seed=1), (*own.names[:3], "CXCL12")) == 0.75  # what is no component is known


def test_whom_an_encoder_has_seen_it_does_not_meet_again_under_any_name(encoder, tmp_path, caplog):
    samples = [make_sample(f"s{i}", f"p{i}", seed=i) for i in range(4)]
    knows = Encoder(encoder.names, encoder.state, {SEEN: seen(samples[:2], "here")})
    knows = Encoder.load(knows.save(tmp_path / "e"))
    knows.check_unseen(samples[2:], "here")
    knows.check_unseen([replace(samples[2], patient_id="p0")], "elsewhere")  # another's first patient
    for again in (samples[1], replace(samples[2], patient_id="p1"), replace(samples[1], patient_id="q", sample_id="t")):
        with pytest.raises(
            InputError, match=r"pretrained on '(p1|q)' of '.*'\. Pretrain on other patients.*pretrain\.epochs"
        ):
            knows.check_unseen([again, samples[3]], "here")
    log_once.cache_clear()
    encoder.check_unseen(samples, "here")
    assert "does not say on whom" in caplog.text
