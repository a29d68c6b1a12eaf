"""Bundle: a trained model as people exchange it: weights.safetensors and model.json, no pickle, nothing to execute."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, from_numpy

from metaniche import __version__
from metaniche.data.clinical import ClinicalFeatures
from metaniche.data.cohort import CohortConfig
from metaniche.data.features import Features
from metaniche.data.pairs import PairFeatures
from metaniche.data.task import Task
from metaniche.errors import CheckpointError, ConfigError
from metaniche.graph import GraphConfig
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.io.wording import listed, reason
from metaniche.io.write import replacing
from metaniche.models import ARCHITECTURES
from metaniche.models.mil import MIL

FORMAT = 4
WEIGHTS, MODEL = "weights.safetensors", "model.json"
INTENDED_USE = (
    "Research on spatial omics of tumours: ranking cells, niches and patients by the risk this model assigns. "
    + RESEARCH_USE_ONLY
)


class Parts(NamedTuple):
    """What the plain states of a bundle stand for."""

    task: Task
    features: Features
    clinical: ClinicalFeatures | None
    pairs: PairFeatures | None
    graph: GraphConfig
    cohort: CohortConfig


@dataclass(frozen=True)
class Bundle:
    """An ensemble of networks with all that is needed to read a new sample.

    Attributes
    ----------
    architecture
        A name in `metaniche.models.ARCHITECTURES`.
    parameters
        Keyword arguments of the architecture, as plain JSON types.
    states
        A state dict per ensemble member.
    task, features, clinical, pairs, graph, cohort
        Plain JSON states of Task, Features, ClinicalFeatures and PairFeatures (or None), GraphConfig and CohortConfig.
    pool
        Which cells are pooled to the unit: see `metaniche.data.units.make_bags`.
    arrays
        Arrays of the fitted Features.
    calibration
        `temperature` (binary tasks and Cox), `bin_edges` (discrete time), `baseline` (Cox): see `metaniche.predict`.
    training
        How it was made: seeds, epochs, number of patients, metrics on held-out patients.
    """

    architecture: str
    parameters: dict[str, Any]
    states: list[dict[str, Tensor]]
    task: dict
    features: dict
    arrays: dict[str, np.ndarray]
    graph: dict
    cohort: dict
    clinical: dict | None = None
    pairs: dict | None = None
    pool: str = "all"
    calibration: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)

    def parts(self) -> Parts:
        """The states as objects. `Bundle.load` has tried it, so that no bundle from disk fails later."""
        features = Features.from_state(self.features, self.arrays)
        return Parts(
            Task(**self.task),
            features,
            ClinicalFeatures(**self.clinical) if self.clinical else None,
            PairFeatures.from_state(self.pairs, features.library) if self.pairs else None,
            GraphConfig(**self.graph),
            CohortConfig(**self.cohort),
        )

    def members(self) -> list[MIL]:
        """The networks, in evaluation mode."""
        out = []
        for state in self.states:
            model = ARCHITECTURES[self.architecture](**self.parameters)
            model.load_state_dict(state)
            out.append(model.eval())
        return out

    def weights(self) -> bytes:
        """weights.safetensors: member i's tensor t is `member{i}.t`, the features' arrays are `features.*`."""
        tensors = {f"member{i}.{n}": t.contiguous().cpu() for i, s in enumerate(self.states) for n, t in s.items()}
        tensors |= {f"features.{n}": from_numpy(np.ascontiguousarray(a)) for n, a in self.arrays.items()}
        return save_tensors(tensors)

    @property
    def hash(self) -> str:
        """16 hex digits of a sha256 over the weights and all else that a score depends on: names the model in every
        output. The version that wrote the bundle and the intended use are no part of it."""
        return hashlib.sha256(self.weights() + _canonical(self._plain())).hexdigest()[:16]

    def _plain(self) -> dict[str, Any]:
        """All but the tensors, as model.json has it."""
        return {name: getattr(self, name) for name in _PLAIN}

    def save(self, folder: Path) -> Path:
        """Write both files into `folder`, each whole or not at all; model.json comes last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.weights()
        model = {
            "format": FORMAT,
            "metaniche": __version__,
            "intended_use": INTENDED_USE,
            "n_members": len(self.states),
            "units": {"distance": "um"},
            **self._plain(),
        }
        model["sha256"] = {WEIGHTS: hashlib.sha256(weights).hexdigest(), MODEL: _digest(model)}
        for name, content in ((WEIGHTS, weights), (MODEL, json.dumps(model, indent=1, sort_keys=True).encode())):
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)
        return folder

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read and check a bundle. Raises CheckpointError naming the file and what is wrong with it."""
        folder = Path(folder)
        for name in (MODEL, WEIGHTS):
            if not (folder / name).is_file():
                raise CheckpointError(f"Expected {name} in the bundle {folder}, found none. Is this a bundle folder?")
        try:
            model = json.loads((folder / MODEL).read_text())
        except ValueError as error:
            raise CheckpointError(f"{folder / MODEL} is no JSON: {error}. Copy the bundle again.") from error
        if not isinstance(model, dict) or model.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder / MODEL}: expected format {FORMAT}, found {_get(model, 'format')!r}. "
                "It was written by another version of metaniche: train it again."
            )
        if model.get("architecture") not in ARCHITECTURES:
            raise CheckpointError(
                f"{folder / MODEL}: expected an architecture among {listed(ARCHITECTURES, 20)}, found "
                f"{model.get('architecture')!r}. Use the version of metaniche that has it."
            )
        if _digest(model) != _get(model.get("sha256"), MODEL):
            raise CheckpointError(
                f"{folder / MODEL} does not match its own sha256: it was edited or damaged. Copy the bundle again, or "
                "train one with the settings you want."
            )
        weights = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(weights).hexdigest() != _get(model.get("sha256"), WEIGHTS):
            raise CheckpointError(f"{folder / WEIGHTS} does not match its sha256 in {MODEL}. Copy the bundle again.")
        tensors = load_tensors(weights)
        try:
            bundle = cls(
                states=[_strip(tensors, f"member{i}.") for i in range(model["n_members"])],
                arrays={n: t.numpy() for n, t in _strip(tensors, "features.").items()},
                **{k: model[k] for k in _PLAIN},
            )
            bundle.members()
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{folder}: expected {WEIGHTS} of the network in {MODEL}, but they do not belong together: "
                f"{reason(error)}. Copy both files again."
            ) from error
        try:
            bundle.parts()
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{folder / MODEL}: expected a task, features, graph and cohort that this version of metaniche reads, found "
                f"{reason(error)}. Use the version that wrote it ({model.get('metaniche', 'unknown')}), or train it again."
            ) from error
        return bundle


_UNREADABLE = (KeyError, TypeError, RuntimeError, ValueError, AttributeError, ConfigError)
_PLAIN = tuple(f.name for f in fields(Bundle) if f.name not in ("states", "arrays"))  # those of model.json


def _canonical(plain: dict) -> bytes:
    """One spelling for equal content, whatever the order of keys and the white space."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def _digest(model: dict) -> str:
    """sha256 of the content of model.json without its digests."""
    return hashlib.sha256(_canonical({k: v for k, v in model.items() if k != "sha256"})).hexdigest()


def _get(table: object, key: str) -> object:
    return table.get(key) if isinstance(table, dict) else None


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
