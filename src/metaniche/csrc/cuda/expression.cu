// Complexes of every cell from the expression of their subunits, dense or CSR as the expression is.
//
// Specialised by GEOMETRIC (0: minimum, 1: geometric mean), THREADS.
#include "common/complex.h"
#include "cuda/bisect.h"

namespace metaniche {

// The expression of one cell by gene, found in its CSR row, whose columns ascend.
struct Row {
    const i32* columns;
    const float* values;
    i64 first, last;

    __device__ __forceinline__ float operator()(i32 gene) const {
        const i64 at = lower_bound(columns, first, last, gene);
        return at < last && columns[at] == gene ? values[at] : 0.0f;
    }
};

// visit(complex, value, mask) by every lane of the warp that owns a row; `mask` are the lanes whose complex is not 0.
template <class Visit>
__device__ __forceinline__ void each_complex(const Row& row, const i64* complex_ptr, const i32* genes, i64 complexes,
                                             Visit&& visit) {
    for (i64 start = 0; start < complexes; start += 32) {
        const i64 c = start + threadIdx.x % 32;
        float value = 0.0f;
        if (c < complexes)
            value = complex_of(row, genes + complex_ptr[c], complex_ptr[c + 1] - complex_ptr[c], GEOMETRIC);
        visit(c, value, __ballot_sync(ALL, value != 0.0f));
    }
}

__device__ __forceinline__ i64 row_of_warp() { return (i64(blockIdx.x) * THREADS + threadIdx.x) / 32; }

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: out (cells, complexes); a thread makes one value.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
complex_dense(const float* __restrict__ x, const i64* __restrict__ complex_ptr, const i32* __restrict__ genes,
              i64 cells, i64 width, i64 complexes, i64 subunits, float* __restrict__ out) {
    const i64 item = i64(blockIdx.x) * THREADS + threadIdx.x, row = item / complexes, c = item % complexes;
    if (row >= cells) return;
    const float* own = x + row * width;
    out[item] = complex_of([own](i32 gene) { return own[gene]; }, genes + complex_ptr[c],
                           complex_ptr[c + 1] - complex_ptr[c], GEOMETRIC);
}

// OUTPUT: counts (cells) of complexes that are not 0.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
complex_counts(const i64* __restrict__ ptr, const i32* __restrict__ columns, const float* __restrict__ values,
               const i64* __restrict__ complex_ptr, const i32* __restrict__ genes, i64 cells, i64 entries,
               i64 complexes, i64 subunits, i64* __restrict__ counts) {
    const i64 row = row_of_warp();
    if (row >= cells) return;
    i64 count = 0;
    each_complex({columns, values, ptr[row], ptr[row + 1]}, complex_ptr, genes, complexes,
                 [&](i64, float, u32 mask) { count += __popc(mask); });
    if (threadIdx.x % 32 == 0) counts[row] = count;
}

// OUTPUT: out_columns and out_values (found) of the rows out_ptr, columns ascending.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
complex_fill(const i64* __restrict__ ptr, const i32* __restrict__ columns, const float* __restrict__ values,
             const i64* __restrict__ complex_ptr, const i32* __restrict__ genes, const i64* __restrict__ out_ptr,
             i64 cells, i64 entries, i64 complexes, i64 subunits, i64 found, i32* __restrict__ out_columns,
             float* __restrict__ out_values) {
    const i64 row = row_of_warp();
    if (row >= cells) return;
    i64 start = out_ptr[row];
    const u32 before = (1u << threadIdx.x % 32) - 1u;
    each_complex({columns, values, ptr[row], ptr[row + 1]}, complex_ptr, genes, complexes,
                 [&](i64 c, float value, u32 mask) {
                     const i64 at = start + __popc(mask & before);
                     if (value != 0.0f) {
                         out_columns[at] = i32(c);
                         out_values[at] = value;
                     }
                     start += __popc(mask);
                 });
}
