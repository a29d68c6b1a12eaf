// The edges of a CSR by sender: the transposed graph, with the number of every edge.
#pragma once
#include <omp.h>

#include <algorithm>

#include "common/types.h"

namespace metaniche {

// The edges edges[ptr[j]:ptr[j + 1]] leave j, in ascending order, so that every sum over them has one order.
// Each thread has senders of its own and looks at all edges: two passes in the time of reading them, and no atomics.
inline void sort_by_sender(const i64* indptr, const i32* indices, i64 rows, i64* ptr, i64* edges, i32* receivers) {
    const i64 n_edges = indptr[rows];
    ptr[0] = 0;
#pragma omp parallel
    {
        const i64 me = omp_get_thread_num(), threads = omp_get_num_threads();
        const i64 low = rows * me / threads, high = rows * (me + 1) / threads;
        i64* next = ptr + 1;  // how many edges a sender has, then where its next one goes: in the end, where the sender ends
        std::fill(next + low, next + high, 0);
        for (i64 e = 0; e < n_edges; ++e)
            if (low <= indices[e] && indices[e] < high) ++next[indices[e]];
#pragma omp barrier
#pragma omp single
        for (i64 j = 0, before = 0; j < rows; ++j) {
            const i64 count = next[j];
            next[j] = before;
            before += count;
        }
        for (i64 i = 0; i < rows; ++i)
            for (i64 e = indptr[i]; e < indptr[i + 1]; ++e)
                if (const i32 j = indices[e]; low <= j && j < high) {
                    edges[next[j]] = e;
                    receivers[next[j]++] = i32(i);
                }
    }
}

}  // namespace metaniche
