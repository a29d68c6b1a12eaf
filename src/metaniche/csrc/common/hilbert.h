// Hilbert keys by Skilling's transpose algorithm, doi:10.1063/1.1751381.
#pragma once
#include "common/types.h"

namespace metaniche {

constexpr int HILBERT_BITS = 16;

// Position along the curve of a point whose axes lie in [0, 2^16).
template <int Dim>
METANICHE_BOTH u64 hilbert_key(u32 (&axes)[Dim]) {
    for (int shift = HILBERT_BITS - 1; shift > 0; --shift) {
        const u32 bit = 1u << shift, mask = bit - 1;
        for (int d = 0; d < Dim; ++d) {
            if (axes[d] & bit) {
                axes[0] ^= mask;
            } else {
                const u32 swapped = (axes[0] ^ axes[d]) & mask;
                axes[0] ^= swapped;
                axes[d] ^= swapped;
            }
        }
    }
    for (int d = 1; d < Dim; ++d) axes[d] ^= axes[d - 1];
    u32 flip = 0;
    for (int shift = HILBERT_BITS - 1; shift > 0; --shift) {
        const u32 bit = 1u << shift;
        if (axes[Dim - 1] & bit) flip ^= bit - 1;
    }
    u64 key = 0;
    for (int shift = HILBERT_BITS - 1; shift >= 0; --shift)
        for (int d = 0; d < Dim; ++d) key = (key << 1) | (((axes[d] ^ flip) >> shift) & 1u);
    return key;
}

}  // namespace metaniche
