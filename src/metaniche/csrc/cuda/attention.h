// What the attention kernels share: which lanes work on what, and a row's way over its edges, whoever brings the keys
// and values of the senders. ROW_LANES lanes own a row, GROUP of them a head; each holds PIECES vectors of VEC channels.
//
// Specialised by VALUE (float or bf16), HEADS, WIDTH (channels a head), VEC (divides WIDTH, at most 16 bytes),
// GROUP and SLOTS (heads a block works on; powers of two, GROUP * SLOTS <= 32), DROPOUT (0 or 1), THREADS.
#pragma once
#include "common/dropout.h"
#include "cuda/vector.h"

namespace metaniche {

constexpr int ROW_LANES = GROUP * SLOTS;
constexpr int ROWS = THREADS / ROW_LANES;             // rows of a block
constexpr int PARTS = (HEADS + SLOTS - 1) / SLOTS;    // blocks that share a row's heads
constexpr int PIECES = (WIDTH + VEC * GROUP - 1) / (VEC * GROUP);
using Piece = typename Word<VEC * int(sizeof(VALUE))>::type;

// What one lane works on.
struct Lane {
    i64 row;
    int slot, head, at;
    u32 mask;     // the lanes of its row
    bool writes;  // false in a slot beyond the last head, which only keeps the others company

    __device__ __forceinline__ Lane() {
        const int lane = int(threadIdx.x) & 31, within = lane % ROW_LANES;
        row = i64(blockIdx.x / PARTS) * ROWS + threadIdx.x / ROW_LANES;
        slot = within / GROUP;
        const int own = int(blockIdx.x % PARTS) * SLOTS + slot;
        writes = own < HEADS;
        head = writes ? own : HEADS - 1;
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

// What dropout multiplies a weight by.
__device__ __forceinline__ float kept(const Dropout<float>& dropout, i64 edge, const Lane& lane) {
    return DROPOUT ? dropout.factor(edge, lane.head) : 1.0f;
}

// The online softmax of a row; the null slot starts it with weight 1 and is never dropped.
struct Softmax {
    Share sum;
    float top, total;

    __device__ __forceinline__ explicit Softmax(float null) : top(null), total(1.0f) { sum.clear(); }

    // The edges first..last, Batch of them on the way at once; fetch(edge, key, value) brings the sender's.
    template <int Batch, class Fetch>
    __device__ __forceinline__ void take(const Share& query, const Lane& lane, i64 first, i64 last,
                                         const float* __restrict__ bias, const Dropout<float>& dropout, Fetch&& fetch) {
#pragma unroll 1
        for (i64 e = first; e < last; e += Batch) {
            Share key[Batch], value[Batch];
            float logit[Batch];
            float best = top;
#pragma unroll
            for (int b = 0; b < Batch; ++b) {
                // Beyond the end the last edge is read once more and weighs nothing.
                const i64 edge = e + b < last ? e + b : last - 1;
                fetch(edge, key[b], value[b]);
                logit[b] = bias[edge * HEADS + lane.head];
            }
#pragma unroll
            for (int b = 0; b < Batch; ++b) {
                logit[b] += query.dot(key[b], lane);
                if (e + b < last) best = fmaxf(best, logit[b]);
            }
            const float shrink = __expf(top - best);
            total *= shrink;
            sum.scale(shrink);
            top = best;
#pragma unroll
            for (int b = 0; b < Batch; ++b) {
                const float weight = e + b < last ? __expf(logit[b] - top) : 0.0f;
                total += weight;
                sum.add(weight * kept(dropout, e + b, lane), value[b]);
            }
        }
    }
    __device__ __forceinline__ void write(VALUE* __restrict__ out, float* __restrict__ lse, const Lane& lane) {
        sum.scale(1.0f / total);
        sum.write(out, lane);
        if (lane.leads()) lse[lane.row * HEADS + lane.head] = top + __logf(total);
    }
};

// The gradients that a row collects from its edges: of its query, and of each edge's bias.
struct RowGradient {
    Share query, slope, sum;
    float shift, norm;

    __device__ __forceinline__ void read(const VALUE* __restrict__ q, const VALUE* __restrict__ out,
                                         const float* __restrict__ lse, const VALUE* __restrict__ grad, float scale,
                                         float* __restrict__ delta, const Lane& lane) {
        query.read(q, lane.row, lane);
        slope.read(grad, lane.row, lane);
        sum.read(out, lane.row, lane);
        shift = slope.dot(sum, lane);
        norm = lse[lane.row * HEADS + lane.head];
        if (lane.leads()) delta[lane.row * HEADS + lane.head] = shift;
        query.scale(scale);
        sum.clear();
    }
    template <class Fetch>
    __device__ __forceinline__ void take(const Lane& lane, i64 first, i64 last, const float* __restrict__ bias,
                                         float scale, const Dropout<float>& dropout, float* __restrict__ grad_bias,
                                         Fetch&& fetch) {
#pragma unroll 1
        for (i64 e = first; e < last; ++e) {
            Share key, value;
            fetch(e, key, value);
            const float passed = slope.dot(value, lane) * kept(dropout, e, lane);
            const float logit = query.dot(key, lane) + bias[e * HEADS + lane.head];
            const float change = __expf(logit - norm) * (passed - shift);
            if (lane.leads()) grad_bias[e * HEADS + lane.head] = change;
            sum.add(change * scale, key);
        }
    }
};

}  // namespace metaniche
