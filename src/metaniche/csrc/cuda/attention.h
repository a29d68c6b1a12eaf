// What the attention kernels share: which lanes work on what, and a row's way over its edges, whoever brings the keys
// and values of the senders. ROW_LANES lanes own a row, GROUP of them a head; each holds PIECES vectors of VEC channels.
//
// A row takes BATCH edges at a time. All lanes of a head work on each edge's channels, but what is one number an edge
// and head (bias, exponential, dropout) each lane works out for OWN edges only and hands to the others; where a head
// has more lanes than a batch has edges, SHARERS of them work on the same one. All lanes of a warp take as many
// batches, so that they always meet.
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
constexpr int BATCH = 8;
constexpr int OWN = BATCH > GROUP ? BATCH / GROUP : 1;
constexpr int SHARERS = GROUP > BATCH ? GROUP / BATCH : 1;
// Edges of a batch whose channels are on the way at once: as many as leave registers for other warps.
constexpr int LANE_BYTES = PIECES * VEC * int(sizeof(VALUE));
constexpr int AT_ONCE = LANE_BYTES <= 32 ? 4 : LANE_BYTES <= 64 ? 2 : 1;
using Piece = typename Word<VEC * int(sizeof(VALUE))>::type;

// What one lane works on. Lanes beyond the last row or head do the same as the last one's and write nothing.
struct Lane {
    i64 row;
    int slot, head, at;
    bool writes;

    __device__ __forceinline__ explicit Lane(i64 n) {
        const int within = int(threadIdx.x) % ROW_LANES;
        const i64 wanted = i64(blockIdx.x / PARTS) * ROWS + threadIdx.x / ROW_LANES;
        slot = within / GROUP;
        const int own = int(blockIdx.x % PARTS) * SLOTS + slot;
        row = min(wanted, n - 1);
        head = min(own, HEADS - 1);
        writes = row == wanted && head == own;
        at = within % GROUP;
    }
    __device__ __forceinline__ bool leads() const { return writes && at == 0; }
    __device__ __forceinline__ int channel(int piece) const { return (piece * GROUP + at) * VEC; }
    // This lane's edges of a batch, and whether it is the first of those that have the same.
    __device__ __forceinline__ int own(int o) const { return at / SHARERS * OWN + o; }
    __device__ __forceinline__ bool first() const { return at % SHARERS == 0; }

    // What each lane holds of its own edges, handed to the others: all of the batch.
    template <class T>
    __device__ __forceinline__ void hand_out(const T (&held)[OWN], T (&all)[BATCH]) const {
#pragma unroll
        for (int b = 0; b < BATCH; ++b) all[b] = __shfl_sync(ALL, held[b % OWN], b / OWN * SHARERS, GROUP);
    }
    __device__ __forceinline__ float sum(float x) const {
#pragma unroll
        for (int offset = GROUP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL, x, offset);
        return x;
    }
    __device__ __forceinline__ float largest(float x) const {
#pragma unroll
        for (int offset = GROUP / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, offset));
        return x;
    }
    // Sums each edge's parts over the head's lanes; each lane gets those of its own edges, in the first OWN places.
    __device__ __forceinline__ void sums(float (&part)[BATCH]) const {
        int count = BATCH;
#pragma unroll
        for (int offset = GROUP / 2; offset > 0; offset /= 2) {
            // Two lanes share their edges out, until each has its own.
            const bool halves = count != OWN, later = halves && (at & offset) != 0;
            if (halves) count /= 2;
#pragma unroll
            for (int b = 0; b < count; ++b) {
                const float away = halves ? part[b + count] : part[b];
                part[b] = (later ? away : part[b]) + __shfl_xor_sync(ALL, later ? part[b] : away, offset);
            }
        }
    }
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
    // bring(p, x) the channels of piece p; 0 in those that the head does not have.
    template <class Bring>
    __device__ __forceinline__ void fill(const Lane& lane, Bring&& bring) {
#pragma unroll
        for (int p = 0; p < PIECES; ++p) {
            if (lane.channel(p) < WIDTH) {
                bring(p, x[p]);
            } else {
#pragma unroll
                for (int c = 0; c < VEC; ++c) x[p][c] = 0.0f;
            }
        }
    }
    __device__ __forceinline__ void read(const VALUE* array, i64 row, const Lane& lane) {
        const VALUE* from = array + (row * HEADS + lane.head) * WIDTH;
        fill(lane, [&](int p, float (&to)[VEC]) { load<VEC>(from + lane.channel(p), to); });
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
    // This lane's part of the dot product.
    __device__ __forceinline__ float times(const Share& other) const {
        float sum = 0.0f;
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
#pragma unroll
            for (int c = 0; c < VEC; ++c) sum = fmaf(x[p][c], other.x[p][c], sum);
        return sum;
    }
};

// A row's edges, or some of them that stand together.
struct Edges {
    i64 first;
    i32 count;

    // Of the rows of this warp, the most edges.
    __device__ __forceinline__ i32 most() const { return ROW_LANES == 32 ? count : i32(__reduce_max_sync(ALL, u32(count))); }
};

// This lane's edges of the batch that begins at `start`; beyond the row's end its last one again, which counts nothing.
struct Batch {
    i32 left;  // edges of the row from here on, or none
    i64 edge[OWN];
    bool counts[OWN];

    __device__ __forceinline__ Batch(const Edges& edges, i32 start, const Lane& lane) {
        left = edges.count - start;
#pragma unroll
        for (int o = 0; o < OWN; ++o) {
            counts[o] = lane.own(o) < left;
            edge[o] = edges.first + start + (counts[o] ? lane.own(o) : left - 1);
        }
    }
    // Where the lanes' numbers of this lane's o-th edge lie in an array (edges, HEADS).
    __device__ __forceinline__ i64 place(int o, const Lane& lane) const { return edge[o] * HEADS + lane.head; }

    // The number of every edge's sender (receiver), of which far(edge) tells one.
    template <class Far>
    __device__ __forceinline__ void look(const Lane& lane, Far&& far, i32 (&other)[BATCH]) const {
        i32 own[OWN];
#pragma unroll
        for (int o = 0; o < OWN; ++o) own[o] = left > 0 ? far(edge[o]) : 0;
        lane.hand_out(own, other);
    }
    // visit(b, share) of every edge, with what read(other, share) brings.
    template <class Read, class Visit>
    __device__ __forceinline__ void each(const i32 (&other)[BATCH], Read&& read, Visit&& visit) const {
#pragma unroll
        for (int start = 0; start < BATCH; start += AT_ONCE) {
            if (left <= start) continue;
#pragma unroll
            for (int b = start; b < start + AT_ONCE; ++b) {
                Share share;
                read(other[b], share);
                visit(b, share);
            }
        }
    }
};

// What dropout multiplies a weight by.
__device__ __forceinline__ float kept(const Dropout<float>& dropout, i64 edge, const Lane& lane) {
    return DROPOUT ? dropout.factor(edge, lane.head) : 1.0f;
}

// The online softmax of a row; the null slot starts it with weight 1 and is never dropped.
struct Softmax {
    Share sum;
    float top, total;  // `total` over the lanes of a head is the denominator

    __device__ __forceinline__ Softmax(float null, const Lane& lane) : top(null), total(lane.at == 0 ? 1.0f : 0.0f) {
        sum.clear();
    }

    // sender(edge) names what key(sender, share) and value(sender, share) bring.
    template <class Sender, class Key, class Value>
    __device__ __forceinline__ void take(const Share& query, const Lane& lane, const Edges& edges,
                                         const float* __restrict__ bias, const Dropout<float>& dropout,
                                         Sender&& sender, Key&& key, Value&& value) {
        const i32 most = edges.most();
        for (i32 start = 0; start < most; start += BATCH) {
            const Batch batch(edges, start, lane);
            i32 senders[BATCH];
            float part[BATCH] = {}, weight[OWN];
            batch.look(lane, sender, senders);
            batch.each(senders, key, [&](int b, const Share& share) { part[b] = query.times(share); });
            lane.sums(part);
            float best = top;
#pragma unroll
            for (int o = 0; o < OWN; ++o) {
                weight[o] = batch.counts[o] ? part[o] + bias[batch.place(o, lane)] : top;
                best = fmaxf(best, weight[o]);
            }
            best = lane.largest(best);
            const float shrink = __expf(top - best);
            total *= shrink;
            sum.scale(shrink);
            top = best;
#pragma unroll
            for (int o = 0; o < OWN; ++o) {
                weight[o] = batch.counts[o] ? __expf(weight[o] - top) : 0.0f;
                total += lane.first() ? weight[o] : 0.0f;
                weight[o] *= kept(dropout, batch.edge[o], lane);
            }
            float weights[BATCH];
            lane.hand_out(weight, weights);
            batch.each(senders, value, [&](int b, const Share& share) { sum.add(weights[b], share); });
        }
    }
    __device__ __forceinline__ void write(VALUE* __restrict__ out, float* __restrict__ lse, const Lane& lane) {
        total = lane.sum(total);
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
        shift = lane.sum(slope.times(sum));
        norm = lse[lane.row * HEADS + lane.head];
        if (lane.leads()) delta[lane.row * HEADS + lane.head] = shift;
        query.scale(scale);
        sum.clear();
    }
    // `weight` (edges, HEADS), what each value came in with, is left for the senders.
    template <class Sender, class Key, class Value>
    __device__ __forceinline__ void take(const Lane& lane, const Edges& edges, const float* __restrict__ bias,
                                         const Dropout<float>& dropout, float* __restrict__ grad_bias,
                                         float* __restrict__ weight, Sender&& sender, Key&& key, Value&& value) {
        const i32 most = edges.most();
        for (i32 start = 0; start < most; start += BATCH) {
            const Batch batch(edges, start, lane);
            i32 senders[BATCH];
            float logit[BATCH] = {}, passed[BATCH] = {}, change[OWN] = {};
            batch.look(lane, sender, senders);
            batch.each(senders, key, [&](int b, const Share& share) { logit[b] = query.times(share); });
            lane.sums(logit);
            batch.each(senders, value, [&](int b, const Share& share) { passed[b] = slope.times(share); });
            lane.sums(passed);
#pragma unroll
            for (int o = 0; o < OWN; ++o) {
                if (!batch.counts[o]) continue;
                const i64 place = batch.place(o, lane);
                const float alpha = __expf(logit[o] + bias[place] - norm), factor = kept(dropout, batch.edge[o], lane);
                change[o] = alpha * (passed[o] * factor - shift);
                if (!lane.writes || !lane.first()) continue;
                grad_bias[place] = change[o];
                weight[place] = alpha * factor;
            }
            float changes[BATCH];
            lane.hand_out(change, changes);
            batch.each(senders, key, [&](int b, const Share& share) { sum.add(changes[b], share); });
        }
    }
    __device__ __forceinline__ void write(VALUE* __restrict__ grad_q, float scale, const Lane& lane) {
        sum.scale(scale);
        sum.write(grad_q, lane);
    }
};

// The gradients that a sender collects from its edges: of its key and of its value.
struct SenderGradient {
    Share key, value;

    __device__ __forceinline__ SenderGradient() {
        key.clear();
        value.clear();
    }
    // `order` is the place of each edge in the CSR of the receivers, as `weight` and `grad_bias` lie.
    template <class Receiver, class Query, class Slope>
    __device__ __forceinline__ void take(const Lane& lane, const Edges& edges, const i64* __restrict__ order,
                                         const float* __restrict__ weight, const float* __restrict__ grad_bias,
                                         Receiver&& receiver, Query&& query, Slope&& slope) {
        const i32 most = edges.most();
        for (i32 start = 0; start < most; start += BATCH) {
            const Batch batch(edges, start, lane);
            i32 receivers[BATCH];
            float own[OWN] = {}, change[OWN] = {};
            batch.look(lane, receiver, receivers);
#pragma unroll
            for (int o = 0; o < OWN; ++o) {
                if (!batch.counts[o]) continue;
                const i64 place = order[batch.edge[o]] * HEADS + lane.head;
                own[o] = weight[place];
                change[o] = grad_bias[place];
            }
            float weights[BATCH], changes[BATCH];
            lane.hand_out(own, weights);
            lane.hand_out(change, changes);
            batch.each(receivers, slope, [&](int b, const Share& share) { value.add(weights[b], share); });
            batch.each(receivers, query, [&](int b, const Share& share) { key.add(changes[b], share); });
        }
    }
    __device__ __forceinline__ void write(VALUE* __restrict__ grad_k, VALUE* __restrict__ grad_v, float scale,
                                          const Lane& lane) {
        key.scale(scale);
        key.write(grad_k, lane);
        value.write(grad_v, lane);
    }
};

}  // namespace metaniche
