// A team of lanes on one row of a CSR: COLUMNS of them on neighbouring columns, and ENTRIES entries at once.
// Specialised by COLUMNS and ENTRIES (powers of two, together at most 32), THREADS.
#pragma once
#include "common/types.h"

namespace metaniche {

constexpr int TEAM = COLUMNS * ENTRIES;

struct Team {
    i64 row, column;
    int entry;

    // blockIdx.y counts tiles of `tile` columns.
    __device__ __forceinline__ explicit Team(int tile) {
        const int within = int(threadIdx.x) % TEAM;
        row = (i64(blockIdx.x) * THREADS + threadIdx.x) / TEAM;
        column = i64(blockIdx.y) * tile + within % COLUMNS;
        entry = within / COLUMNS;
    }

    // The sum over the lanes of one column, known to each; all lanes of the warp take part.
    template <class T>
    __device__ __forceinline__ T over_entries(T x) const {
#pragma unroll
        for (int offset = COLUMNS; offset < TEAM; offset *= 2) x += __shfl_xor_sync(ALL, x, offset);
        return x;
    }

    // The sum over the lanes of one entry.
    template <class T>
    __device__ __forceinline__ T over_columns(T x) const {
#pragma unroll
        for (int offset = 1; offset < COLUMNS; offset *= 2) x += __shfl_xor_sync(ALL, x, offset);
        return x;
    }
};

}  // namespace metaniche
