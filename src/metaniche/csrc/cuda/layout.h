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
struct Spans {
    i64 first[THREADS], last[THREADS];
};

template <class T, int COUNT>
__device__ __forceinline__ void clear(T (&x)[COUNT]) {
    for (int k = int(threadIdx.x); k < COUNT; k += THREADS) x[k] = T(0);
}

// One cell's entries first:last, shared out among the threads: SPREAD neighbouring ones have the same. Each thread's
// first is brought at once, so that it is on the way while other cells are worked on.
template <int SPREAD>
struct Entries {
    i64 own, last;
    i32 column;
    VALUE value;

    __device__ __forceinline__ Entries() : own(0), last(0) {}
    __device__ __forceinline__ Entries(const Cells& cells, i64 first, i64 last)
        : own(first + threadIdx.x / SPREAD), last(last) {
        if (own < last) {
            column = cells.columns[own];
            value = cells.values[own];
        }
    }
    // visit(column, value) of this thread's entries.
    template <class Visit>
    __device__ __forceinline__ void each(const Cells& cells, Visit&& visit) const {
        if (own < last) visit(column, value);
#pragma unroll 1  // most cells have no more
        for (i64 k = own + THREADS / SPREAD; k < last; k += THREADS / SPREAD) visit(cells.columns[k], cells.values[k]);
    }
};

// x[gene] += weight * expression of one cell.
template <int GENES>
__device__ __forceinline__ void add(const Cells& cells, const Entries<1>& entries, VALUE weight, VALUE (&x)[GENES]) {
    entries.each(cells, [&](i32 gene, VALUE value) { x[gene] += weight * value; });
}

// visit(edge, entries) for the edges begin:end in their order, with each sender's entries; a barrier follows every
// visit. Where the senders' entries lie is looked up for many edges at once, and of AHEAD edges they are on the way at once.
template <int SPREAD, int AHEAD, class Visit>
__device__ __forceinline__ void each_edge(const Cells& far, const i32* indices, i64 begin, i64 end, Spans& at,
                                          Visit&& visit) {
    for (i64 start = begin; start < end; start += THREADS) {
        const i64 mine = start + threadIdx.x;
        if (mine < end) {
            at.first[threadIdx.x] = far.ptr[indices[mine]];
            at.last[threadIdx.x] = far.ptr[indices[mine] + 1];
        }
        __syncthreads();
        const int count = int(min(end - start, i64(THREADS)));
        for (int k = 0; k < count; k += AHEAD) {
            Entries<SPREAD> next[AHEAD];
#pragma unroll
            for (int a = 0; a < AHEAD; ++a)
                if (k + a < count) next[a] = Entries<SPREAD>(far, at.first[k + a], at.last[k + a]);
#pragma unroll
            for (int a = 0; a < AHEAD; ++a) {
                if (k + a >= count) break;
                visit(start + k + a, next[a]);
                __syncthreads();
            }
        }
    }
}

}  // namespace metaniche
