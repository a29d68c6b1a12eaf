"""Small faults, one at a time, that the tests of a kernel must notice: a lost barrier, a bound that is off by one."""

from __future__ import annotations

import re
from dataclasses import dataclass

BARRIER = re.compile(r"__sync(?:threads|warp)\([^;]*\);")
LOOP = re.compile(r"(?P<head>\bfor \([^;]*;[^;]*?(?:<=|>=|<|>) )(?P<bound>[^;&]+?)(?P<tail>;| &&)")
GUARD = re.compile(
    r"(?P<head>\bif \([^;()]*(?:\([^;()]*\)[^;()]*)*(?:<=|>=|<|>) )(?P<bound>[\w.\[\]]+)(?P<tail>\)(?: \{|\n|[^;\n]*;))"
)
OTHER = re.compile(
    r"(?P<head>(?:\bwhile \(|[\w\])] )[\w.+\[\] ]*(?:<=|>=|<|>) )(?P<bound>\w+(?:\.\w+)*)(?P<tail> \?| &&| \|\||\) \{)"
)


@dataclass(frozen=True)
class Mutant:
    """Site `number` of a source with `shift` added to its bound; 0: the barrier is left out."""

    number: int
    shift: int
    path: str
    line: int
    text: str
    bound: str = ""

    @property
    def name(self) -> str:
        what = f"{self.bound} {self.shift:+d}" if self.shift else "no barrier"
        return f"{self.path}:{self.line}: {what}: {self.text}"


def plant(texts: dict[str, str]) -> tuple[dict[str, str], list[Mutant]]:
    """The kernel's texts with a switch at every site in `cuda/`, and the mutants that the switches make."""
    mutants: list[Mutant] = []
    planted = {path: _plant(path, text, mutants) if path.startswith("cuda/") else text for path, text in texts.items()}
    return planted, mutants


def _plant(path: str, text: str, mutants: list[Mutant]) -> str:
    def note(match: re.Match, shifts: tuple[int, ...]) -> int:
        number = mutants[-1].number + 1 if mutants else 0
        start = text.rfind("\n", 0, match.start()) + 1
        line, code = text.count("\n", 0, match.start()) + 1, text[start : text.find("\n", match.start())].strip()
        bound = match.groupdict().get("bound", "")
        mutants.extend(Mutant(number, shift, path, line, code, bound) for shift in shifts)
        return number

    edits = []
    for match in BARRIER.finditer(text):
        edits.append((match.span(), f"{{ if (simt::keeps({note(match, (0,))})) {match[0]} }}"))
    taken: set[tuple[int, int]] = set()
    for pattern in (LOOP, GUARD, OTHER):
        for match in pattern.finditer(text):
            constant = "constexpr" in text[text.rfind("\n", 0, match.start()) : match.start()]
            if match.span("bound") in taken or constant:
                continue
            taken.add(match.span("bound"))
            site = note(match, (1, -1))
            edits.append((match.span("bound"), f"({match['bound']}) + simt::shift({site})"))
    for (first, last), new in sorted(edits, reverse=True):
        text = text[:first] + new + text[last:]
    return text
