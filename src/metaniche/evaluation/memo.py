"""What several models fit alike on the very same samples is fitted once."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from metaniche.data.sample import PreparedSample


class Memo:
    """The last few results of pure functions of some samples.

    A result is given again only for an equal key and the same sample objects in the same order. Samples are held
    weakly: the memo keeps none in memory, and one that is gone is never mistaken for another.
    """

    def __init__(self, size: int = 8) -> None:
        self._entries: deque[tuple[Hashable, list[weakref.ref], Any]] = deque(maxlen=size)

    def get(self, key: Hashable, samples: Sequence[PreparedSample], make: Callable[[], Any]) -> Any:
        """The remembered result, or `make()`, which nobody may change afterwards."""
        for known, references, result in self._entries:
            same = len(references) == len(samples) and all(r() is s for r, s in zip(references, samples))
            if known == key and same:
                return result
        result = make()
        self._entries.append((key, [weakref.ref(s) for s in samples], result))
        return result
