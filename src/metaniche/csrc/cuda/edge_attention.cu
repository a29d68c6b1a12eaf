// Dot-product attention over a CSR, the lanes of a row reading its senders from memory. Nothing of edges by width is
// stored, and every sum has one order: no atomics. A row's block has all its heads: SLOTS >= HEADS.
#include "cuda/attention.h"

namespace metaniche {

__device__ __forceinline__ Edges row_of(const i64* __restrict__ indptr, const Lane& lane) {
    return {indptr[lane.row], i32(indptr[lane.row + 1] - indptr[lane.row])};
}

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: out (n, HEADS, WIDTH) and lse (n, HEADS).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_forward(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                  const i64* __restrict__ indptr, const i32* __restrict__ indices, const float* __restrict__ bias,
                  const float* __restrict__ null, i64 n, i64 edges, float scale, u64 start, u64 limit, float keep,
                  VALUE* __restrict__ out, float* __restrict__ lse) {
    const Lane lane(n);
    Share query;
    query.read(q, lane.row, lane);
    query.scale(scale);
    Softmax softmax(null[lane.head], lane);
    softmax.take(
        query, lane, row_of(indptr, lane), bias, Dropout<float>{start, limit, keep},
        [&](i64 edge) { return indices[edge]; }, [&](i32 j, Share& share) { share.read(k, j, lane); },
        [&](i32 j, Share& share) { share.read(v, j, lane); });
    softmax.write(out, lse, lane);
}

// Destination pass. OUTPUT: grad_q (n, HEADS, WIDTH), grad_bias and weight (edges, HEADS), delta (n, HEADS) = grad . out.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_backward_rows(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                        const i64* __restrict__ indptr, const i32* __restrict__ indices,
                        const float* __restrict__ bias, const VALUE* __restrict__ out, const float* __restrict__ lse,
                        const VALUE* __restrict__ grad, i64 n, i64 edges, float scale, u64 start, u64 limit, float keep,
                        VALUE* __restrict__ grad_q, float* __restrict__ grad_bias, float* __restrict__ weight,
                        float* __restrict__ delta) {
    const Lane lane(n);
    RowGradient row;
    row.read(q, out, lse, grad, scale, delta, lane);
    row.take(
        lane, row_of(indptr, lane), bias, Dropout<float>{start, limit, keep}, grad_bias, weight,
        [&](i64 edge) { return indices[edge]; }, [&](i32 j, Share& share) { share.read(k, j, lane); },
        [&](i32 j, Share& share) { share.read(v, j, lane); });
    row.write(grad_q, scale, lane);
}

// Source pass over the edges by sender (ptr, receivers, and `order` = their place in the CSR).
// OUTPUT: grad_k and grad_v (n, HEADS, WIDTH).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_backward_columns(const VALUE* __restrict__ q, const VALUE* __restrict__ grad, const i64* __restrict__ ptr,
                           const i32* __restrict__ receivers, const i64* __restrict__ order,
                           const float* __restrict__ grad_bias, const float* __restrict__ weight, i64 n, i64 edges,
                           float scale, VALUE* __restrict__ grad_k, VALUE* __restrict__ grad_v) {
    const Lane lane(n);
    SenderGradient sender;
    sender.take(
        lane, row_of(ptr, lane), order, weight, grad_bias, [&](i64 edge) { return receivers[edge]; },
        [&](i32 i, Share& share) { share.read(q, i, lane); }, [&](i32 i, Share& share) { share.read(grad, i, lane); });
    sender.write(grad_k, grad_v, scale, lane);
}
