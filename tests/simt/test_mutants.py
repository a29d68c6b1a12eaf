from simt.mutants import plant

TEXT = """    if (i >= n) return;
    for (i64 e = first; e < last; e += 2) x += e < m ? 1 : 0;
    __syncthreads();
    __syncwarp(team.mask);
constexpr int A = B <= 8 ? 2 : 1;
"""


def test_every_site_is_planted_once():
    texts, mutants = plant({"cuda/k.cu": TEXT, "common/h.h": TEXT})
    assert texts["common/h.h"] == TEXT
    assert texts["cuda/k.cu"].splitlines() == [
        "    if (i >= (n) + simt::shift(3)) return;",
        "    for (i64 e = first; e < (last) + simt::shift(2); e += 2) x += e < (m) + simt::shift(4) ? 1 : 0;",
        "    { if (simt::keeps(0)) __syncthreads(); }",
        "    { if (simt::keeps(1)) __syncwarp(team.mask); }",
        "constexpr int A = B <= 8 ? 2 : 1;",
    ]
    assert [(m.number, m.shift, m.line, m.bound) for m in mutants] == [
        (0, 0, 3, ""),
        (1, 0, 4, ""),
        (2, 1, 2, "last"),
        (2, -1, 2, "last"),
        (3, 1, 1, "n"),
        (3, -1, 1, "n"),
        (4, 1, 2, "m"),
        (4, -1, 2, "m"),
    ]
    assert mutants[0].name == "cuda/k.cu:3: no barrier: __syncthreads();"
