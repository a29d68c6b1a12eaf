// Sums, maxima and softmax over the rows of a CSR, each in one fixed order: no atomics.
//
// WARPS warps work on a row and COLUMNS lanes of each on neighbouring columns; the other lanes take every
// STRIDE-th entry. blockIdx.y counts tiles of COLUMNS columns.
// Specialised by VALUE (float or double), REDUCE (0 sum, 1 max), COLUMNS (power of two <= 32),
// WARPS (1, or THREADS / 32), THREADS.
#include "common/types.h"

namespace metaniche {

constexpr int LANES = 32 / COLUMNS;       // entries a warp reads at once
constexpr int STRIDE = WARPS * LANES;     // entries a row's team reads at once
constexpr int ROWS = THREADS / 32 / WARPS;  // rows a block works on

struct Place {
    i64 row, column;
    int warp, entry;  // within the row's team

    __device__ __forceinline__ Place() {
        const int lane = int(threadIdx.x) & 31, team = int(threadIdx.x) / 32;
        row = i64(blockIdx.x) * ROWS + team / WARPS;
        column = i64(blockIdx.y) * COLUMNS + lane % COLUMNS;
        warp = team % WARPS;
        entry = warp * LANES + lane / COLUMNS;
    }
};

__device__ __forceinline__ VALUE lowest() { return VALUE(-__int_as_float(0x7f800000)); }
// NaN wins, as it does in torch.
__device__ __forceinline__ VALUE larger(VALUE a, VALUE b) { return a > b || a != a ? a : b; }
__device__ __forceinline__ VALUE sum(VALUE a, VALUE b) { return a + b; }

// One value a column from each warp of a row's team.
using Parts = VALUE[WARPS][COLUMNS];

// One value a column from all lanes of the row's team, known to each; all threads of the block take part.
template <class Join>
__device__ __forceinline__ VALUE join(VALUE x, const Place& place, Parts& part, Join&& both) {
#pragma unroll
    for (int offset = COLUMNS; offset < 32; offset *= 2) x = both(x, __shfl_xor_sync(ALL, x, offset));
#if WARPS > 1
    const int column = int(threadIdx.x) % COLUMNS;
    __syncthreads();  // whoever still reads the parts of the reduction before
    if (place.entry % LANES == 0) part[place.warp][column] = x;
    __syncthreads();
    x = part[0][column];
    for (int w = 1; w < WARPS; ++w) x = both(x, part[w][column]);
#endif
    return x;
}

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: out (rows, width); an empty row gives 0.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
segment_reduce(const VALUE* __restrict__ x, const i64* __restrict__ indptr, i64 rows, i64 entries, i64 width,
               VALUE* __restrict__ out) {
    __shared__ VALUE part[WARPS][COLUMNS];
    const Place place;
    const bool inside = place.row < rows && place.column < width;
    const i64 first = inside ? indptr[place.row] : 0, last = inside ? indptr[place.row + 1] : 0;
    VALUE own = REDUCE == 1 ? lowest() : VALUE(0);
    for (i64 e = first + place.entry; e < last; e += STRIDE) {
        const VALUE next = x[e * width + place.column];
        own = REDUCE == 1 ? larger(own, next) : own + next;
    }
    if (REDUCE == 1) {
        own = join(own, place, part, [](VALUE a, VALUE b) { return larger(a, b); });
        if (first == last) own = VALUE(0);
    } else {
        own = join(own, place, part, [](VALUE a, VALUE b) { return sum(a, b); });
    }
    if (inside && place.entry == 0) out[place.row * width + place.column] = own;
}

// OUTPUT: out (entries, width), the softmax of each column within each row.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
segment_softmax(const VALUE* __restrict__ x, const i64* __restrict__ indptr, i64 rows, i64 entries, i64 width,
                VALUE* __restrict__ out) {
    __shared__ VALUE part[WARPS][COLUMNS];
    const Place place;
    const bool inside = place.row < rows && place.column < width;
    const i64 first = inside ? indptr[place.row] : 0, last = inside ? indptr[place.row + 1] : 0;
    VALUE top = lowest(), total = VALUE(0);
    for (i64 e = first + place.entry; e < last; e += STRIDE) top = larger(top, x[e * width + place.column]);
    top = join(top, place, part, [](VALUE a, VALUE b) { return larger(a, b); });
    for (i64 e = first + place.entry; e < last; e += STRIDE) total += exp(x[e * width + place.column] - top);
    total = join(total, place, part, [](VALUE a, VALUE b) { return sum(a, b); });
    for (i64 e = first + place.entry; e < last; e += STRIDE)
        out[e * width + place.column] = exp(x[e * width + place.column] - top) / total;
}
