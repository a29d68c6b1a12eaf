"""A run folder belongs to one configuration; what another one trained there is never mixed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaniche.errors import ConfigError
from metaniche.io.write import write_json
from metaniche.models.encoder import ABOUT

_IDENTITY = "config.json"
TRAINED = ("member*", ABOUT)  # what a run leaves of a network


def claim(run_dir: Path, identity: Mapping[str, Any], resume: bool) -> None:
    """Make a run folder one's own, or go on in it. Raises ConfigError when something else trained there.

    `identity` is all that decides the result, as plain JSON types.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / _IDENTITY
    mine = json.loads(json.dumps(identity, sort_keys=True, default=str))
    if path.exists() and any(next(run_dir.glob(trained), None) for trained in TRAINED):
        theirs = json.loads(path.read_text())
        if different := _differences(theirs, mine):
            raise ConfigError(
                f"{run_dir} holds a run with another configuration; different: {', '.join(different)}. "
                "Give this run another run_name, or delete the folder."
            )
        if not resume:
            raise ConfigError(f"{run_dir} holds this run already. Use resume=true to go on, or another run_name.")
    write_json(path, mine)


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys_ = sorted({*one, *other})
        return [d for k in keys_ for d in _differences(one.get(k), other.get(k), f"{path}.{k}".lstrip("."))]
    return [] if one == other else [f"{path} ({one!r} there, {other!r} now)"]
