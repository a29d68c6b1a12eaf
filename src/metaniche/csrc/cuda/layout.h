// Sparse rows of expression laid out over all genes in shared memory, by all threads of a block together.
//
// Specialised by VALUE (float or double) and THREADS.
#pragma once
#include "common/types.h"

namespace metaniche {

// Expression of cells as CSR rows; no column stands twice in a row.
struct Cells {
    const i64* ptr;
    const i32* columns;
    const VALUE* values;
};

// Where the expression of the senders of the edges at hand lies.
struct Senders {
    i64 first[THREADS], last[THREADS];
};

template <int COUNT>
__device__ __forceinline__ void clear(VALUE (&x)[COUNT]) {
    for (int k = int(threadIdx.x); k < COUNT; k += THREADS) x[k] = VALUE(0);
}

// x[gene] += weight * expression at the entries first:last.
template <int GENES>
__device__ __forceinline__ void add(const Cells& cells, i64 first, i64 last, VALUE weight, VALUE (&x)[GENES]) {
    for (i64 k = first + threadIdx.x; k < last; k += THREADS) x[cells.columns[k]] += weight * cells.values[k];
}

// visit(edge, first, last) for the edges begin:end in their order, with the entries of each sender's expression; a
// barrier follows every visit. Where the senders' entries lie is looked up for many edges at once.
template <class Visit>
__device__ __forceinline__ void each_edge(const Cells& far, const i32* senders, i64 begin, i64 end, Senders& at,
                                          Visit&& visit) {
    for (i64 start = begin; start < end; start += THREADS) {
        const i64 mine = start + threadIdx.x;
        if (mine < end) {
            at.first[threadIdx.x] = far.ptr[senders[mine]];
            at.last[threadIdx.x] = far.ptr[senders[mine] + 1];
        }
        __syncthreads();
        const int count = int(min(end - start, i64(THREADS)));
        for (int k = 0; k < count; ++k) {
            visit(start + k, at.first[k], at.last[k]);
            __syncthreads();
        }
    }
}

}  // namespace metaniche
