"""Mutants that compute the same: (bound, shift, a part of the line) and why nothing can notice them."""

from simt.mutants import Mutant

SUPERSET = "more candidates are tested, none of them a neighbour"
GUARDED = "a later guard makes the extra turn empty"
SHORTCUT = "a shortcut is missed and float64 decides the same"
LEFT = "what a thread leaves to nearest.cu is found there"

SAME = {
    ("32", -1, "offset < 32"): "offsets are powers of two",
    ("TEAM", -1, "offset < TEAM"): "offsets are powers of two, and no team has two lanes",
    ("last", -1, "here = e < last ? e : last - 1"): "both branches name the last entry",
    ("PIECES", 1, "for (int p = 0; p < PIECES; ++p)"): GUARDED,
    ("count", 1, "from += CHUNK"): GUARDED,
    ("BATCH", -1, "start += AT_ONCE"): "no step begins there",
    ("most", 1, "start += BATCH"): GUARDED,
    ("most", 1, "bin < most ? bin : most"): "only rounding could put a cell beyond the last bin",
    ("0", -1, "first > 0 ? first : 0"): "-1 is not above -1",
    ("0", 1, "first > 0 ? first : 0"): SUPERSET,
    ("last", 1, "first > last"): "an empty run starts where it ends",
    ("0.0", -1, "j == i || (inner > 0.0"): SHORTCUT,
    ("0.0", 1, "j == i || (inner > 0.0"): SHORTCUT,
    ("outer_surely", -1, "s <= outer_surely"): SHORTCUT,
    ("0.0", -1, "s <= outer_surely"): SHORTCUT,
    ("0.0", -1, "return d <= outer"): "no square of an undecided pair is 0 without an inner bound",
    ("1", 1, "dy <= 1"): SUPERSET,
    ("most", 1, "step += LANES"): GUARDED,
    ("entry[a]", -1, "entry[b] < entry[a]"): "entries are 2**32 apart",
    ("entry[a]", 1, "entry[b] < entry[a]"): "entries are 2**32 apart",
    ("most", 1, "half < most"): "the row is sorted already",
    ("n", 1, "lower(t, half) < n"): GUARDED,
    ("n", -1, "lower(t, half) < n"): "the last entry has no partner",
    ("n", 1, "lower(t, apart) < n"): GUARDED,
    ("n", -1, "lower(t, apart) < n"): "the last entry has no partner",
    ("longest", 1, "e += LANES"): GUARDED,
    ("rings.unseen_from(ring)", -1, "best.worst >="): SUPERSET,
    ("worst", 1, "return d < worst"): "a farther one stands behind the last that counts",
    ("SLOTS", 1, "r < SLOTS"): GUARDED,
    ("0", 1, "previous = s > 0"): "only four slots tell, and `four_slots` takes long",
    ("run.last", 1, "from += 32"): GUARDED,
    ("limit", 1, "<= limit"): SHORTCUT,
    ("0", -1, "if (want <= 0)"): "a cell without neighbours writes nothing",
    ("DIM", -1, "at[d] = cells.bin_along"): "around the wrong bin the search goes on until all is seen",
    ("0", -1, "before > 0"): "beyond the box there are no cells",
    ("MOST", 1, "found = t == wanted"): "nobody wants so many",
    ("LAST_RING", -1, "ring <= LAST_RING"): LEFT,
    ("LAST_RING", 1, "ring <= LAST_RING"): LEFT,
    ("MOST_SEEN", -1, "seen > MOST_SEEN"): LEFT,
    ("MOST_SEEN", 1, "seen > MOST_SEEN"): LEFT,
    ("0.0", -1, "unseen > 0.0"): "such a square is below every reach",
    ("0", -1, "sure = want <= 0"): "a cell without neighbours writes nothing",
    ("complexes", 1, "start += 32"): GUARDED,
    ("COLUMNS", 1, "lane < COLUMNS && head < heads"): "the next lane has the same sum of the same head",
    ("heads", 1, "tile += COLUMNS"): GUARDED,
    ("end", 1, "start += THREADS"): GUARDED,
    ("count", 1, "k += AHEAD"): GUARDED,
    ("end", 1, "first += 32"): GUARDED,
    ("longest", 1, "f += LANES"): GUARDED,
    ("count", 1, "next[a] = Entries"): "what is brought is not visited",
    ("slots", 1, "start += THREADS / share"): GUARDED,
    ("pairs", 1, "tile += TILE"): "a tile without pairs adds nothing",
    ("n_types", 1, "first += 32"): GUARDED,
    ("most", -1, "longest > most"): "of `most` entries all are kept",
}


def reason(mutant: Mutant) -> str | None:
    """Why nothing can notice the mutant, or None."""
    for (bound, shift, part), why in SAME.items():
        if (mutant.bound, mutant.shift) == (bound, shift) and part in mutant.text:
            return why
    return None
