"""What a network's gain hangs on: the same network with one of its parts, or of the tissue's, taken away."""

from __future__ import annotations

from dataclasses import replace

from metaniche.errors import ConfigError
from metaniche.evaluation.network import NetworkEstimator
from metaniche.evaluation.tissue_controls import TISSUES

ABLATED = "SeedSoil"
# Name -> changes to the parameters of SeedSoil.
PARTS = {
    "no seed": {"seed": False},
    "no soil": {"soil": False},
    "no signals": {"signals": False},
    "no distance": {"distance": False},
}
SHUFFLED_PAIRS = "pairs shuffled"


def ablations(network: NetworkEstimator) -> list[NetworkEstimator]:
    """The network without each of its terms, without distance, with pairs shuffled, and on tissue taken apart.

    Raises ConfigError for an architecture that has no terms.
    """
    config = network.config
    if config.architecture != ABLATED:
        raise ConfigError(
            f"Expected a network of the architecture {ABLATED} for ablations, found {network.name!r} ({config.architecture})."
        )
    changed = {
        name: replace(network, config=replace(config, parameters={**config.parameters, **part}))
        for name, part in PARTS.items()
    }
    if config.resource is not None:
        changed[SHUFFLED_PAIRS] = replace(network, config=replace(config, shuffle_pairs=True))
    changed |= {name: replace(network, tissue=name) for name in TISSUES}
    return [replace(each, name=f"{network.name}, {name}", cells_dir=None) for name, each in changed.items()]
