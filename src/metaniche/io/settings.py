"""Settings of a user -> a dataclass; a wrong key or kind is a ConfigError that says what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from metaniche.errors import ConfigError
from metaniche.io.wording import nearest

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any] | None, where: str) -> T:
    """A dataclass out of plain values. Raises ConfigError for an unknown key, with the nearest name."""
    values = dict(values or {})
    known = [f.name for f in dataclasses.fields(cls) if f.init]
    for key in values:
        if key not in known:
            raise ConfigError(f"Unknown key `{where}.{key}`. {nearest(key, known)}Known: {', '.join(known)}.")
    hints = get_type_hints(cls)
    for key, value in values.items():
        _check_scalar(hints[key], value, f"{where}.{key}")
    try:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise ConfigError(f"`{where}` is incomplete: {error}.") from error


def _check_scalar(hint: Any, value: Any, where: str) -> None:
    """Raise ConfigError unless a value meant to be a number, a text or a switch is one."""
    kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
    scalars = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    if not kinds <= set(scalars):
        return
    found = type(value)
    if found not in kinds and not (found is int and float in kinds):
        raise ConfigError(
            f"Expected `{where}` to be {' or '.join(sorted(scalars[k] for k in kinds))}, found {value!r}."
        )
