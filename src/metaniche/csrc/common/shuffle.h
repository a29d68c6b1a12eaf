// Counter-based Fisher-Yates shuffles: permutation k of a seed is the same on any device and for any number of threads.
#pragma once
#include "common/hash.h"

namespace metaniche {

// floor(x bound / 2^64) for bound < 2^32: a number in [0, bound).
METANICHE_BOTH u64 scaled(u64 x, u64 bound) { return ((x >> 32) * bound + (((x & 0xFFFFFFFFULL) * bound) >> 32)) >> 32; }

// Where position i changes places in permutation k: SplitMix64's stream from its own start, one draw per position.
METANICHE_BOTH u64 shuffle_start(u64 seed, u64 k) { return splitmix64(splitmix64(seed) ^ k); }
METANICHE_BOTH u64 shuffle_draw(u64 start, u64 i) { return scaled(splitmix64(start + i * 0x9E3779B97F4A7C15ULL), i + 1); }

template <class Label>
METANICHE_BOTH void shuffle(Label* labels, i64 n, u64 start) {
    for (i64 i = n - 1; i > 0; --i) {
        const i64 j = i64(shuffle_draw(start, u64(i)));
        const Label kept = labels[i];
        labels[i] = labels[j];
        labels[j] = kept;
    }
}

}  // namespace metaniche
