// The edges of a CSR by sender: the transposed graph, with the number of every edge.
#include <omp.h>

#include <algorithm>

#include "cpu/arrays.h"

namespace metaniche {
namespace {

// The edges edges[ptr[j]:ptr[j + 1]] leave j, in ascending order, so that every sum over them has one order.
// Each thread has senders of its own and looks at all edges: two passes in the time of reading them, and no atomics.
void by_sender(const Csr& graph, i64 senders, i64* ptr, i32* receivers, i64* edges) {
    const i64 n_edges = graph.indptr[graph.rows];
    const i32* const sender = graph.indices;
    ptr[0] = 0;
#pragma omp parallel
    {
        const i64 me = omp_get_thread_num(), threads = omp_get_num_threads();
        const i64 low = senders * me / threads, high = senders * (me + 1) / threads;
        i64* next = ptr + 1;  // how many edges a sender has, then where its next one goes: in the end, where the sender ends
        std::fill(next + low, next + high, 0);
        for (i64 e = 0; e < n_edges; ++e)
            if (low <= sender[e] && sender[e] < high) ++next[sender[e]];
#pragma omp barrier
#pragma omp single
        for (i64 j = 0, before = 0; j < senders; ++j) {
            const i64 count = next[j];
            next[j] = before;
            before += count;
        }
        for (i64 i = 0; i < graph.rows; ++i)
            for (i64 e = graph.indptr[i]; e < graph.indptr[i + 1]; ++e)
                if (const i32 j = sender[e]; low <= j && j < high) {
                    edges[next[j]] = e;
                    receivers[next[j]++] = i32(i);
                }
    }
}

}  // namespace

void add_by_sender(nb::module_& m) {
    def(m, "by_sender", +[](In<i64, 1> indptr, In<i32, 1> indices, Out<i64, 1> ptr, Out<i32, 1> receivers, Out<i64, 1> edges) {
        const Csr graph(indptr, indices);
        nb::gil_scoped_release release;
        by_sender(graph, i64(ptr.shape(0)) - 1, ptr.data(), receivers.data(), edges.data());
    });
}

}  // namespace metaniche
