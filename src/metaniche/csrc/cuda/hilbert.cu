// Hilbert keys, one thread a cell; the curve itself stands in common/hilbert.h. Specialised by DIM (2 or 3), THREADS.
#include "common/hilbert.h"

using namespace metaniche;

// Samples have their own box: `low` (samples, DIM) and `scale` (samples) = steps a micrometre.
// OUTPUT: keys (n).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
hilbert_keys(const float* __restrict__ pos, const i32* __restrict__ sample, const double* __restrict__ low,
             const double* __restrict__ scale, i64 n, i64 samples, i64* __restrict__ keys) {
    const i64 i = i64(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= n) return;
    const i64 s = sample[i];
    u32 axes[DIM];
#pragma unroll
    for (int d = 0; d < DIM; ++d) axes[d] = u32((double(pos[i * DIM + d]) - low[s * DIM + d]) * scale[s]);
    keys[i] = i64(hilbert_key<DIM>(axes));
}
