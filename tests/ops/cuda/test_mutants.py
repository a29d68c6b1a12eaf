"""The tests of the kernels must bite: every lost barrier and every shifted bound is noticed.

`make kernels` tries all mutants; otherwise all barriers and a share of the bounds.
"""

import os

import pytest
from simt.cases import SHORT as CASES
from simt.equivalent import SAME, reason
from simt.machine import mutants_of

ALL = bool(os.environ.get("METANICHE_ALL_MUTANTS"))
SHARE = 1 if ALL else 8


# A header's mutants are tried under one of the sources that include it.
HEADERS = {
    "cuda/attention.h": "edge_attention",
    "cuda/cell_list.h": "neighbors",
    "cuda/layout.h": "ligrec",
    "cuda/rings.h": "nearest",
    "cuda/row_team.h": "csr_encoder",
    "cuda/vector.h": "edge_attention",
}


def mutants(source):
    """Those that something can notice; a shared header's under one of the sources that have it."""
    own = [m for m in mutants_of(source) if HEADERS.get(m.path, source) == source]
    return [m for m in own if not reason(m)]


@pytest.mark.parametrize("source", CASES)
def test_every_mutant_is_noticed(simt, source):
    every = mutants(source)
    tried = [m for i, m in enumerate(every) if i % SHARE == 0 or not m.shift]
    survivors = [m.name for m in tried if not noticed(simt, m, CASES[source])]
    assert not survivors, "\n".join(survivors)


def noticed(simt, mutant, cases):
    for seed in (0, 1, 2):
        for case in cases:
            try:
                with simt(seed, mutant=mutant, seconds=5, most_switches=1_000_000):
                    case("cpu")
            except (AssertionError, IndexError, RuntimeError):
                return True
    return False


@pytest.mark.parametrize("source", CASES)
def test_without_a_mutant_the_same_limits_are_kept(simt, source):
    """What ends a mutant by time or by its number of operations must not end the kernel itself."""
    for seed in (0, 1, 2):
        for case in CASES[source]:
            with simt(seed, seconds=5, most_switches=1_000_000):
                case("cpu")


def test_every_excuse_is_used():
    every = [m for source in CASES for m in mutants_of(source)]
    excused = {
        (m.bound, m.shift, part)
        for m in every
        for _, _, part in SAME
        if part in m.text and (m.bound, m.shift, part) in SAME
    }
    assert excused == set(SAME)


def test_every_barrier_is_a_site():
    lost = [m for source in CASES for m in mutants_of(source) if not m.shift]
    assert {m.path for m in lost} == {
        "cuda/autocorrelation.cu",
        "cuda/edge_attention_tiles.cu",
        "cuda/label_null.cu",
        "cuda/layout.h",
        "cuda/ligrec.cu",
        "cuda/neighbors.cu",
        "cuda/pair_logits.cu",
        "cuda/segment.cu",
    }
    assert not any(reason(m) for m in lost)
