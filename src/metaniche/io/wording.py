"""The grammar of every InputError: where, what was expected, what was found, how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from metaniche.errors import InputError


def refusal(where: object, *, expected: str, found: str, fix: str) -> InputError:
    """The InputError to raise. `where` names the file or sample; `expected` and `found` name the key."""
    return InputError(f"{where}: expected {expected}, found {found}. {fix}")


def listed(items: Collection, limit: int = 5) -> str:
    """The first items, quoted, and how many more there are."""
    shown = ", ".join(repr(str(item)) for item in list(items)[:limit])
    more = len(items) - limit
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def reason(error: Exception) -> str:
    """Kind and text of an error of another library, with its notes: anndata names the key in one."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}" + (f" ({notes})" if notes else "")


def nearest(name: str, options: Collection) -> str:
    """ "Did you mean 'x'? " where an option is close to `name`, else an empty string."""
    close = difflib.get_close_matches(str(name), [str(option) for option in options], n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}? " if close else ""
