// Dot-product attention over a CSR, the lanes of a row reading its senders from memory. Nothing of edges by width is
// stored, and every sum has one order: no atomics. A row's block has all its heads: SLOTS >= HEADS.
#include "cuda/attention.h"

using namespace metaniche;

// Edges whose keys and values are on the way at once; wide shares leave no registers for a second.
constexpr int BATCH = PIECES * VEC <= 8 ? 2 : 1;

// OUTPUT: out (n, HEADS, WIDTH) and lse (n, HEADS).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_forward(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                  const i64* __restrict__ indptr, const i32* __restrict__ indices, const float* __restrict__ bias,
                  const float* __restrict__ null, i64 n, i64 edges, float scale, u64 start, u64 limit, float keep,
                  VALUE* __restrict__ out, float* __restrict__ lse) {
    const Lane lane;
    if (lane.row >= n) return;
    Share query;
    query.read(q, lane.row, lane);
    query.scale(scale);
    Softmax softmax(null[lane.head]);
    softmax.take<BATCH>(query, lane, indptr[lane.row], indptr[lane.row + 1], bias, Dropout<float>{start, limit, keep},
                        [&](i64 edge, Share& key, Share& value) {
                            const i64 j = indices[edge];
                            key.read(k, j, lane);
                            value.read(v, j, lane);
                        });
    softmax.write(out, lse, lane);
}

// Destination pass. OUTPUT: grad_q (n, HEADS, WIDTH), grad_bias (edges, HEADS), delta (n, HEADS) = grad . out.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_backward_rows(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                        const i64* __restrict__ indptr, const i32* __restrict__ indices,
                        const float* __restrict__ bias, const VALUE* __restrict__ out, const float* __restrict__ lse,
                        const VALUE* __restrict__ grad, i64 n, i64 edges, float scale, u64 start, u64 limit, float keep,
                        VALUE* __restrict__ grad_q, float* __restrict__ grad_bias, float* __restrict__ delta) {
    const Lane lane;
    if (lane.row >= n) return;
    RowGradient row;
    row.read(q, out, lse, grad, scale, delta, lane);
    row.take(lane, indptr[lane.row], indptr[lane.row + 1], bias, scale, Dropout<float>{start, limit, keep}, grad_bias,
             [&](i64 edge, Share& key, Share& value) {
                 const i64 j = indices[edge];
                 key.read(k, j, lane);
                 value.read(v, j, lane);
             });
    row.sum.write(grad_q, lane);
}

// Source pass over the edges by sender (ptr, receivers, and `order` = their place in the CSR).
// OUTPUT: grad_k and grad_v (n, HEADS, WIDTH).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_backward_columns(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const i64* __restrict__ ptr,
                           const i32* __restrict__ receivers, const i64* __restrict__ order,
                           const float* __restrict__ bias, const float* __restrict__ lse,
                           const VALUE* __restrict__ grad, const float* __restrict__ grad_bias, i64 n, i64 edges,
                           float scale, u64 start, u64 limit, float keep, VALUE* __restrict__ grad_k,
                           VALUE* __restrict__ grad_v) {
    const Lane lane;
    if (lane.row >= n) return;
    const Dropout<float> dropout{start, limit, keep};
    Share key, to_key, to_value;
    key.read(k, lane.row, lane);
    key.scale(scale);
    to_key.clear();
    to_value.clear();
    const i64 last = ptr[lane.row + 1];
    for (i64 t = ptr[lane.row]; t < last; ++t) {
        const i64 i = receivers[t], e = order[t];
        Share query, slope;
        query.read(q, i, lane);
        slope.read(grad, i, lane);
        const float logit = key.dot(query, lane) + bias[e * HEADS + lane.head];
        const float weight = __expf(logit - lse[i * HEADS + lane.head]);
        to_value.add(weight * kept(dropout, e, lane), slope);
        to_key.add(grad_bias[e * HEADS + lane.head] * scale, query);
    }
    to_key.write(grad_k, lane);
    to_value.write(grad_v, lane);
}
