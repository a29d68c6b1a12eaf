// Dot-product attention over a CSR. ROW_LANES lanes own a row, GROUP of them a head; each holds PIECES vectors of VEC
// channels. Nothing of edges by width is stored, and every sum has one order: no atomics.
//
// Specialised by VALUE (float or bf16), HEADS, WIDTH (channels a head), VEC (divides WIDTH, at most 16 bytes),
// GROUP and SLOTS (powers of two; SLOTS >= HEADS, GROUP * SLOTS <= 32), THREADS.
#include "cuda/vector.h"

namespace metaniche {

constexpr int ROW_LANES = GROUP * SLOTS;
constexpr int PIECES = (WIDTH + VEC * GROUP - 1) / (VEC * GROUP);
// Edges whose keys and values are on the way at once; wide shares leave no registers for a second.
constexpr int BATCH = PIECES * VEC <= 8 ? 2 : 1;

// What one lane works on.
struct Lane {
    i64 row;
    int head, at;
    u32 mask;     // the lanes of its row
    bool writes;  // false in a slot beyond the last head, which only keeps the others company

    __device__ __forceinline__ Lane() {
        const int lane = int(threadIdx.x) & 31, within = lane % ROW_LANES;
        row = (i64(blockIdx.x) * THREADS + threadIdx.x) / ROW_LANES;
        const int slot = within / GROUP;
        writes = slot < HEADS;
        head = writes ? slot : HEADS - 1;
        at = within % GROUP;
        mask = ROW_LANES == 32 ? 0xffffffffu : ((1u << (ROW_LANES % 32)) - 1u) << (lane - within);
    }
    __device__ __forceinline__ bool leads() const { return writes && at == 0; }
    __device__ __forceinline__ int channel(int piece) const { return (piece * GROUP + at) * VEC; }
};

// This lane's share of one head's channels of one row.
struct Share {
    float x[PIECES][VEC];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int c = 0; c < VEC; ++c) x[p][c] = 0.0f;
    }
    __device__ __forceinline__ void read(const VALUE* array, i64 row, const Lane& lane) {
        const VALUE* from = array + (row * HEADS + lane.head) * WIDTH;
#pragma unroll
        for (int p = 0; p < PIECES; ++p) {
            if (lane.channel(p) < WIDTH) {
                load<VEC>(from + lane.channel(p), x[p]);
            } else {
#pragma unroll
                for (int c = 0; c < VEC; ++c) x[p][c] = 0.0f;
            }
        }
    }
    __device__ __forceinline__ void write(VALUE* array, const Lane& lane) const {
        VALUE* to = array + (lane.row * HEADS + lane.head) * WIDTH;
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
            if (lane.writes && lane.channel(p) < WIDTH) store<VEC>(to + lane.channel(p), x[p]);
    }
    __device__ __forceinline__ void scale(float factor) {
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int c = 0; c < VEC; ++c) x[p][c] *= factor;
    }
    __device__ __forceinline__ void add(float factor, const Share& other) {
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int c = 0; c < VEC; ++c) x[p][c] = fmaf(factor, other.x[p][c], x[p][c]);
    }
    // The dot product over the head's channels, known to all its lanes.
    __device__ __forceinline__ float dot(const Share& other, const Lane& lane) const {
        float sum = 0.0f;
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int c = 0; c < VEC; ++c) sum = fmaf(x[p][c], other.x[p][c], sum);
#pragma unroll
        for (int offset = GROUP / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(lane.mask, sum, offset);
        return sum;
    }
};

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: out (n, HEADS, WIDTH) and lse (n, HEADS). The null slot starts the online softmax with weight 1.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_forward(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                  const i64* __restrict__ indptr, const i32* __restrict__ indices, const float* __restrict__ bias,
                  const float* __restrict__ null, i64 n, i64 edges, float scale, VALUE* __restrict__ out,
                  float* __restrict__ lse) {
    const Lane lane;
    if (lane.row >= n) return;
    Share query, sum;
    query.read(q, lane.row, lane);
    query.scale(scale);
    sum.clear();
    float top = null[lane.head], total = 1.0f;
    const i64 last = indptr[lane.row + 1];
    for (i64 e = indptr[lane.row]; e < last; e += BATCH) {
        Share key[BATCH], value[BATCH];
        float logit[BATCH];
        float best = top;
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            // Beyond the row's end the last edge is read once more and weighs nothing.
            const i64 edge = e + b < last ? e + b : last - 1, j = indices[edge];
            key[b].read(k, j, lane);
            value[b].read(v, j, lane);
            logit[b] = bias[edge * HEADS + lane.head];
        }
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            logit[b] += query.dot(key[b], lane);
            if (e + b < last) best = fmaxf(best, logit[b]);
        }
        const float shrink = __expf(top - best);
        total *= shrink;
        sum.scale(shrink);
        top = best;
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            const float weight = e + b < last ? __expf(logit[b] - top) : 0.0f;
            total += weight;
            sum.add(weight, value[b]);
        }
    }
    sum.scale(1.0f / total);
    sum.write(out, lane);
    if (lane.leads()) lse[lane.row * HEADS + lane.head] = top + __logf(total);
}

// Destination pass. OUTPUT: grad_q (n, HEADS, WIDTH), grad_bias (edges, HEADS), delta (n, HEADS) = grad . out.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_backward_rows(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                        const i64* __restrict__ indptr, const i32* __restrict__ indices,
                        const float* __restrict__ bias, const VALUE* __restrict__ out, const float* __restrict__ lse,
                        const VALUE* __restrict__ grad, i64 n, i64 edges, float scale, VALUE* __restrict__ grad_q,
                        float* __restrict__ grad_bias, float* __restrict__ delta) {
    const Lane lane;
    if (lane.row >= n) return;
    Share query, slope, sum;
    query.read(q, lane.row, lane);
    slope.read(grad, lane.row, lane);
    sum.read(out, lane.row, lane);
    const float shift = slope.dot(sum, lane), norm = lse[lane.row * HEADS + lane.head];
    if (lane.leads()) delta[lane.row * HEADS + lane.head] = shift;
    query.scale(scale);
    sum.clear();
    const i64 last = indptr[lane.row + 1];
    for (i64 e = indptr[lane.row]; e < last; ++e) {
        const i64 j = indices[e];
        Share key, value;
        key.read(k, j, lane);
        value.read(v, j, lane);
        const float logit = query.dot(key, lane) + bias[e * HEADS + lane.head];
        const float change = __expf(logit - norm) * (slope.dot(value, lane) - shift);
        if (lane.leads()) grad_bias[e * HEADS + lane.head] = change;
        sum.add(change * scale, key);
    }
    sum.write(grad_q, lane);
}

// Source pass over the edges by sender (ptr, receivers, and `order` = their place in the CSR).
// OUTPUT: grad_k and grad_v (n, HEADS, WIDTH).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attention_backward_columns(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const i64* __restrict__ ptr,
                           const i32* __restrict__ receivers, const i64* __restrict__ order,
                           const float* __restrict__ bias, const float* __restrict__ lse,
                           const VALUE* __restrict__ grad, const float* __restrict__ grad_bias, i64 n, i64 edges,
                           float scale, VALUE* __restrict__ grad_k, VALUE* __restrict__ grad_v) {
    const Lane lane;
    if (lane.row >= n) return;
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
        to_value.add(__expf(logit - lse[i * HEADS + lane.head]), slope);
        to_key.add(grad_bias[e * HEADS + lane.head] * scale, query);
    }
    to_key.write(grad_k, lane);
    to_value.write(grad_v, lane);
}
