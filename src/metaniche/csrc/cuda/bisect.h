// Search in a sorted part of an array.
#pragma once
#include "common/types.h"

namespace metaniche {

// The first place in [low, high) whose value is not below `key`; `high` where there is none.
__device__ __forceinline__ i64 lower_bound(const i32* values, i64 low, i64 high, i32 key) {
    while (low < high) {
        const i64 middle = low + (high - low) / 2;
        if (values[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

}  // namespace metaniche
