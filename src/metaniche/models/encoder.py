"""Encoder: what pretraining learned of cells, on disk; weights are given to a network by the names of its features."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from metaniche.data.sample import PreparedSample
from metaniche.errors import CheckpointError, ConfigError, InputError
from metaniche.io.once import log_once
from metaniche.io.wording import listed
from metaniche.io.write import replacing, write_json
from metaniche.models.mil import MIL

log = logging.getLogger(__name__)

FORMAT = 1
SEEN = "seen"  # in `about`
WEIGHTS, ABOUT = "encoder.safetensors", "encoder.json"
_COMPONENT = re.compile(r"PC\d+")  # as `Features.names` has them
FIRST = "0.weight"  # (width, features) of `MIL.embed`


def seen(samples: Sequence[PreparedSample], cohort: str) -> dict[str, list[str]]:
    """Digests of the patients, whose ids mean something within their cohort only, and of the tissue itself."""
    patients = {_of_patient(s, cohort) for s in samples}
    return {"patients": sorted(patients), "tissue": sorted(map(_of_tissue, samples))}


def _of_patient(sample: PreparedSample, cohort: str) -> str:
    return hashlib.sha256(f"{cohort}\n{sample.patient_id}".encode()).hexdigest()[:16]


def _of_tissue(sample: PreparedSample) -> str:
    """Of where its cells lie, whatever is measured of them."""
    return hashlib.sha256(sample.graph.pos_um.numpy().tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Encoder:
    """The state of a network's `embed` and the names of its input features.

    Attributes
    ----------
    names
        Features, in the order of the columns of the first layer.
    state
        Of `MIL.embed`.
    about
        How it was made: cohort, epochs, seed, masked error before and after, and of whom (`seen`); plain values.
    basis
        `Features.basis` of the features; empty for principal components of an encoder of before, which did not say.
    """

    names: tuple[str, ...]
    state: Mapping[str, Tensor] = field(repr=False)
    about: Mapping[str, object] = field(default_factory=dict, repr=False)
    basis: str | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state.items()}
        object.__setattr__(self, "state", tensors)
        content = json.dumps(self.names).encode() + (self.basis or "").encode() + save_tensors(tensors)
        object.__setattr__(self, "sha256", hashlib.sha256(content).hexdigest())

    def give_to(self, network: MIL, names: Sequence[str], basis: str | None = None) -> float:
        """Put the weights into `network.embed`, whose features are `names`; the share of them that the encoder knows.

        Columns of features that it does not know stay as they are. `basis` is that of the features. Raises ConfigError for
        another width, where no feature is known, and for principal components of another fit, which only share their names.
        """
        own = {name: place for place, name in enumerate(self.names)}
        known = [(there, own[name]) for there, name in enumerate(names) if name in own]
        components = [names[there] for there, _ in known if _COMPONENT.fullmatch(names[there])]
        if components and self.basis != basis:
            raise ConfigError(
                f"Expected an encoder of the same principal components, found {listed(components, 3)} of another fit: axes "
                "that share nothing but the name. Pretrain the encoder, and start from it, with data.features.n_components=0."
            )
        if not known:
            raise ConfigError(
                f"Expected features that the encoder knows ({listed(self.names, 4)}), found none ({listed(names, 4)}). "
                "Pretrain on tissue of the same panel, or of one that shares genes or markers with it."
            )
        width, needed = (len(state[FIRST]) for state in (self.state, network.embed.state_dict()))
        if width != needed:
            raise ConfigError(f"Expected an encoder of width {needed}, found {width}. Set model.width={width}.")
        first = network.embed.state_dict()[FIRST].clone()
        here, there = (torch.tensor(side) for side in zip(*known))
        first[:, here] = self.state[FIRST][:, there].to(first)
        network.embed.load_state_dict({**self.state, FIRST: first})
        return len(known) / len(names)

    def check_unseen(self, samples: Sequence[PreparedSample], cohort: str) -> None:
        """Raise InputError where the encoder was pretrained on patients or tissue of `samples`, of the cohort of that name,
        which are to be held out. Warns of an encoder of before, which does not say whom it has seen.
        """
        if SEEN not in self.about:
            log_once(
                log.warning, "The encoder does not say on whom it was pretrained: held-out patients may be among them."
            )
            return
        patients, tissue = (set(self.about[SEEN][key]) for key in ("patients", "tissue"))
        known = [s for s in samples if _of_patient(s, cohort) in patients or _of_tissue(s) in tissue]
        if known:
            raise InputError(
                f"Expected an encoder that has not seen the patients that are held out, found that it was pretrained on "
                f"{listed(sorted({s.patient_id for s in known}))} of {cohort!r}. Pretrain on other patients, or within the "
                "training patients of every fold: pretrain.epochs in place of pretrain.encoder. Where these are other people, "
                "give the cohort a data.name of its own."
            )

    def save(self, folder: Path) -> Path:
        """Write encoder.safetensors and encoder.json, each whole or not at all; the latter comes last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as temporary:
            temporary.write_bytes(save_tensors(dict(self.state)))
        about = {"format": FORMAT, "names": list(self.names), "sha256": self.sha256, "about": dict(self.about)}
        about["basis"] = self.basis
        write_json(folder / ABOUT, about)
        return folder

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """Read and check. Raises CheckpointError naming the file and what is wrong with it."""
        folder = Path(folder)
        try:
            about = json.loads((folder / ABOUT).read_text())
            names = tuple(about["names"])
            basis = about.get("basis", "" if any(map(_COMPONENT.fullmatch, names)) else None)
            encoder = cls(names, load_tensors((folder / WEIGHTS).read_bytes()), about["about"], basis)
            whole = about["format"] == FORMAT and encoder.sha256 == about["sha256"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder}: expected {ABOUT} and {WEIGHTS} of an encoder, found {type(error).__name__}: {error}. Make one "
                "with metaniche-train pretrain.only=true."
            ) from error
        if not whole:
            raise CheckpointError(
                f"{folder}: expected an encoder of format {FORMAT} with its own sha256, found another. Copy it again."
            )
        return encoder
