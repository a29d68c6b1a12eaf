// The edges of a CSR by sender: the transposed graph, with the number of every edge.
#pragma once
#include <vector>

#include "common/types.h"

namespace metaniche {

// The edges edges[ptr[j]:ptr[j + 1]] leave j, in ascending order, so that every sum over them has one order.
inline void sort_by_sender(const i64* indptr, const i32* indices, i64 rows, i64* ptr, i64* edges, i32* receivers) {
    const i64 n_edges = indptr[rows];
    for (i64 j = 0; j <= rows; ++j) ptr[j] = 0;
    for (i64 e = 0; e < n_edges; ++e) ++ptr[indices[e] + 1];
    for (i64 j = 0; j < rows; ++j) ptr[j + 1] += ptr[j];
    std::vector<i64> next(ptr, ptr + rows);
    for (i64 i = 0; i < rows; ++i)
        for (i64 e = indptr[i]; e < indptr[i + 1]; ++e) {
            const i64 at = next[indices[e]]++;
            edges[at] = e;
            receivers[at] = i32(i);
        }
}

}  // namespace metaniche
