// splitmix64 of Steele, Lea and Flood (2014), doi:10.1145/2660193.2660195: counter-based, the same on any device.
#pragma once
#include "common/types.h"

namespace metaniche {

METANICHE_BOTH u64 splitmix64(u64 z) {
    z += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

// A number of the pair (i, j) and nothing else, chained over (seed, i, j).
METANICHE_BOTH u64 pair_hash(u64 seed, u64 i, u64 j) { return splitmix64(splitmix64(splitmix64(seed) ^ i) ^ j); }

}  // namespace metaniche
