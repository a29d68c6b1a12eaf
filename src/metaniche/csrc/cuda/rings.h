// The bins around a cell, ring by ring: the first is the cell's own bin and all that touch it.
#pragma once
#include "cuda/cell_list.h"

namespace metaniche {

struct Rings {
    const CellList& cells;
    i64 i, sample;
    i64 at[3];

    __device__ __forceinline__ Rings(const CellList& cells, i64 i, i64 sample)
        : cells(cells), i(i), sample(sample), at{0, 0, 0} {
#pragma unroll
        for (int d = 0; d < DIM; ++d) at[d] = cells.bin_along(d, sample, cells.x(d, i));
    }

    // scan(run) of the shell of bins at `ring`, or with `whole` of all bins up to it.
    template <class Scan>
    __device__ __forceinline__ void visit(i64 ring, bool whole, Scan&& scan) const {
        const i64 depth = DIM == 3 ? ring : 0;
        for (i64 dz = -depth; dz <= depth; ++dz)
            for (i64 dy = -ring; dy <= ring; ++dy) {
                const bool face = dy == ring || dy == -ring || (DIM == 3 && (dz == ring || dz == -ring));
                const i64 y = at[1] + dy, z = at[2] + dz;
                if (whole || face) {
                    scan(cells.row(sample, y, z, at[0] - ring, at[0] + ring));
                } else {
                    scan(cells.row(sample, y, z, at[0] - ring, at[0] - ring));
                    scan(cells.row(sample, y, z, at[0] + ring, at[0] + ring));
                }
            }
    }

    // A lower bound of the distance to the cells outside the rings seen; infinite where there are none.
    __device__ __forceinline__ double unseen_from(i64 ring) const {
        double least = infinity();
        const double side = cells.side[sample];
#pragma unroll
        for (int d = 0; d < DIM; ++d) {
            const double x = cells.x(d, i), low = cells.low[sample * DIM + d];
            const i64 before = at[d] - ring, after = at[d] + ring + 1;
            if (before > 0) least = fmin(least, x - (low + double(before) * side));
            if (after < cells.bins[sample * DIM + d]) least = fmin(least, low + double(after) * side - x);
        }
        return least - ROUNDING * side;
    }
};

}  // namespace metaniche
