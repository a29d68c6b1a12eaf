// Which entries dropout keeps: a draw of (seed, edge, head) alone. Nothing is stored, it is drawn again where needed.
#pragma once
#include "common/hash.h"

namespace metaniche {

// Dropped are the entries whose hash is below `limit` = 2^64 p; the kept ones are multiplied by `scale` = 1 / (1 - p).
template <class T>
struct Dropout {
    u64 start, limit;  // start = splitmix64(seed)
    T scale;
    METANICHE_BOTH T factor(i64 edge, i64 head) const {
        return splitmix64(splitmix64(start ^ u64(edge)) ^ u64(head)) < limit ? T(0) : scale;
    }
};

}  // namespace metaniche
