// Cells sorted into square bins, sample after sample: the candidates near a cell are a few runs of the sorted cells.
// Specialised by DIM (2 or 3) and DENSE (1: a start for every bin; 0: only occupied bins, found by bisection).
#pragma once
#include "common/types.h"

namespace metaniche {

// float32 rounding of a squared distance, of the cast of its bound, and of a bin's wall stay below this.
constexpr double ROUNDING = 1e-6;

__device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000LL); }

// A range of sorted cells.
struct Run {
    i32 first, last;
};

struct CellList {
    const float* axes;      // (DIM, n) coordinates of the sorted cells
    i64 n;
    const double *low, *side;  // (samples, DIM) corner of each sample's box, (samples) side of its bins
    const i64 *bins, *base;    // (samples, DIM) number of bins, (samples) key of its first bin
    const i64* occupied;    // (n_occupied) keys in ascending order; DENSE: unused
    const i32* starts;      // first sorted cell of each bin, and the end
    i64 n_occupied;

    __device__ __forceinline__ float x(int d, i64 cell) const { return axes[d * n + cell]; }

    __device__ __forceinline__ i64 bin_along(int d, i64 sample, float x) const {
        const i64 bin = i64((double(x) - low[sample * DIM + d]) / side[sample]), most = bins[sample * DIM + d] - 1;
        return bin < most ? bin : most;
    }

    __device__ __forceinline__ float square(i64 i, i64 j) const {
        float sum = 0.0f;
#pragma unroll
        for (int d = 0; d < DIM; ++d) {
            const float difference = x(d, j) - x(d, i);
            sum += difference * difference;
        }
        return sum;
    }

    // As numpy computes it: nothing may be fused.
    __device__ __forceinline__ double distance(i64 i, i64 j) const {
        double sum = 0.0;
#pragma unroll
        for (int d = 0; d < DIM; ++d) {
            const double difference = __dsub_rn(double(x(d, i)), double(x(d, j)));
            sum = __dadd_rn(sum, __dmul_rn(difference, difference));
        }
        return __dsqrt_rn(sum);
    }

    __device__ __forceinline__ i32 start_of(i64 key) const {
#if DENSE
        return starts[key];
#else
        i64 from = 0, to = n_occupied;
        while (from < to) {
            const i64 middle = (from + to) / 2;
            if (occupied[middle] < key) from = middle + 1;
            else to = middle;
        }
        return starts[from];
#endif
    }

    // Cells of the bins first..last (inclusive, clipped to the box) in the row of bins that y and z name.
    __device__ __forceinline__ Run row(i64 sample, i64 y, i64 z, i64 first, i64 last) const {
        const i64* count = bins + sample * DIM;
        first = first > 0 ? first : 0;
        last = last < count[0] - 1 ? last : count[0] - 1;
        if (y < 0 || y >= count[1] || first > last) return {0, 0};
        i64 line = y;
#if DIM == 3
        if (z < 0 || z >= count[2]) return {0, 0};
        line += z * count[1];
#endif
        const i64 key = base[sample] + line * count[0];
        return {start_of(key + first), start_of(key + last + 1)};
    }
};

}  // namespace metaniche
