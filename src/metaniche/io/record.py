"""uns["metaniche"]: what a sample says of itself, and what metaniche wrote of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anndata import AnnData

from metaniche.io import keys
from metaniche.io.wording import refusal


def own_record(adata: AnnData, *, where: object) -> dict[str, Any]:
    """A copy of uns["metaniche"], empty where there is none.

    Raises InputError where something else stands there, which metaniche's record would write over.
    """
    record = adata.uns.get(keys.UNS, {})
    if not isinstance(record, Mapping):
        raise refusal(
            where,
            expected=f"uns[{keys.UNS!r}] to be metaniche's record (a mapping), or nothing",
            found=f"{type(record).__name__} {str(record)[:40]!r}",
            fix=f"Move it to another key: adata.uns['other'] = adata.uns.pop({keys.UNS!r}).",
        )
    return dict(record)
