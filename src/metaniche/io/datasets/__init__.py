"""The named public cohorts. Each module gives `tables()`, `read_sample(sample_id)` and `LEFT_OUT`.

In: a cohort's name. Out: its sample table, patient table, and AnnData of one sample at a time.
May import: metaniche.errors and metaniche.io. The files themselves stay where their authors put them; only their paths
and checksums are packaged (`registry.csv`).
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from metaniche.errors import ConfigError
from metaniche.io.wording import nearest

DATASETS = {name: f"{__name__}.{name}" for name in ("crc_codex", "her2st", "tnbc_mibi")}


def load(name: str) -> ModuleType:
    """The module of a named cohort. Raises ConfigError for an unknown name."""
    if name not in DATASETS:
        raise ConfigError(
            f"Expected a dataset among {sorted(DATASETS)}, found {name!r}. {nearest(name, DATASETS)}".rstrip()
        )
    return import_module(DATASETS[name])
