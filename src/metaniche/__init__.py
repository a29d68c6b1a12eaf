"""metaniche: cell-cell communication in tumours and the metastatic potential it carries. Research use only."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("metaniche")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_ROOMS = (
    "data", "evaluation", "graph", "io", "metrics", "models", "ops", "pl", "pp", "predict", "report", "signaling", "tl",
    "training",
)  # fmt: skip

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str):
    """Rooms are imported when they are first used, so that `import metaniche` stays light."""
    if name in _ROOMS:
        return import_module(f"metaniche.{name}")
    raise AttributeError(f"module 'metaniche' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
