// Ligand-receptor signals along the edges of a graph, reduced as they arise: nothing of edges by pairs is ever stored.
//
// A block lays out what a row's own cell expresses (near) and what its neighbours do (far) over all genes in shared
// memory; its threads then look at a tile of pairs. Neighbours come one after the other: every sum has one order.
// Specialised by VALUE (float or double), FAR and NEAR (genes), HELD (pairs a thread holds), SATURATES (0: the
// product, 1: its Hill function), THREADS.
#include "common/hill.h"
#include "cuda/layout.h"

namespace metaniche {

constexpr int TILE = THREADS * HELD;
// Blocks that a multiprocessor should hold at once; pairs held from edge to edge take registers.
constexpr int BLOCKS = SATURATES ? 5 : 6;

// The pairs first + thread, first + thread + THREADS, ... of one thread.
struct Pairs {
    const i32 *far, *near;  // genes of all pairs
    i64 first, count;
    double sum[HELD];
    // Held from edge to edge where the signal saturates.
    int far_gene[HELD];
    VALUE near_value[HELD];

    __device__ __forceinline__ Pairs(const i32* pair_far, const i32* pair_near, i64 first, i64 count)
        : far(pair_far), near(pair_near), first(first), count(count) {
#pragma unroll
        for (int k = 0; k < HELD; ++k) sum[k] = 0.0;
    }
    __device__ __forceinline__ i64 pair(int k) const { return first + k * THREADS + threadIdx.x; }

    // What all senders of a row express, weighted and summed, meets what the row's own cell does.
    __device__ __forceinline__ void meet(const VALUE (&around)[FAR], const VALUE (&own)[NEAR]) {
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            if (pair(k) >= count) break;
            const VALUE y = own[near[pair(k)]];
            if (y != VALUE(0)) sum[k] += double(y) * around[far[pair(k)]];
        }
    }
    __device__ __forceinline__ void hold(const VALUE (&own)[NEAR]) {
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            const bool inside = pair(k) < count;
            far_gene[k] = inside ? far[pair(k)] : 0;
            near_value[k] = inside ? own[near[pair(k)]] : VALUE(0);
        }
    }
    // What one sender expresses meets what is held.
    __device__ __forceinline__ void saturate(const VALUE (&sender)[FAR], VALUE weight, const Hill& hill) {
#pragma unroll
        for (int k = 0; k < HELD; ++k) {
            if (near_value[k] == VALUE(0)) continue;
            const VALUE x = sender[far_gene[k]];
            if (x != VALUE(0)) sum[k] += weight * hill(x * near_value[k]);
        }
    }
};

// The signals of one edge, where they saturate.
__device__ __forceinline__ void meet_sender(const Cells& senders, i64 first, i64 last, VALUE weight, const Hill& hill,
                                            VALUE (&far)[FAR], Pairs& pairs) {
    clear(far);
    __syncthreads();
    add(senders, first, last, VALUE(1), far);
    __syncthreads();
    pairs.saturate(far, weight, hill);
}

// out[s] = the sum of the slot's pairs, added up by `share` neighbouring threads. Of a slot that began in a tile
// before, the sum goes on.
__device__ __forceinline__ void sum_slots(const double (&value)[TILE], const i64* slot_ptr, i64 slots, i64 first,
                                          int share, float* out) {
    const int lane = int(threadIdx.x) % share;
    for (i64 start = 0; start < slots; start += THREADS / share) {
        const i64 s = start + threadIdx.x / share;
        const bool inside = s < slots;
        const i64 from = inside ? max(slot_ptr[s], first) : 0, to = inside ? min(slot_ptr[s + 1], first + TILE) : 0;
        double sum = 0.0;
        for (i64 p = from + lane; p < to; p += share) sum += value[p - first];
        for (int offset = share / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
        if (inside && lane == 0) out[s] = float(first == 0 ? sum : out[s] + sum);
    }
}

}  // namespace metaniche

using namespace metaniche;

// A block works on a row; pairs lie in the order of their slots.
// OUTPUT: out (rows, slots) for the rows from first_row on.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
ligrec_signal(const i64* __restrict__ far_ptr, const i32* __restrict__ far_columns,
              const VALUE* __restrict__ far_values, const i64* __restrict__ near_ptr,
              const i32* __restrict__ near_columns, const VALUE* __restrict__ near_values,
              const i32* __restrict__ pair_far, const i32* __restrict__ pair_near, const i64* __restrict__ slot_ptr,
              const i64* __restrict__ indptr, const i32* __restrict__ indices, const VALUE* __restrict__ weight,
              i64 cells, i64 far_entries, i64 near_entries, i64 pairs, i64 slots, i64 edges, i64 first_row, i64 rows,
              i64 share, float inverse_half, float exponent, float* __restrict__ out) {
    __shared__ VALUE far[FAR];
    __shared__ VALUE near[NEAR];
    __shared__ double value[TILE];
    __shared__ Senders at;
    const Cells senders{far_ptr, far_columns, far_values}, own{near_ptr, near_columns, near_values};
    const Hill hill{inverse_half, exponent};
    const i64 row = first_row + blockIdx.x, begin = indptr[row], end = indptr[row + 1];
    clear(far);
    clear(near);
    __syncthreads();
    add(own, near_ptr[row], near_ptr[row + 1], VALUE(1), near);
    if (!SATURATES)
        each_edge(senders, indices, begin, end, at,
                  [&](i64 e, i64 first, i64 last) { add(senders, first, last, weight[e], far); });
    __syncthreads();
    for (i64 tile = 0; tile < pairs; tile += TILE) {
        Pairs held(pair_far, pair_near, tile, pairs);
        if (SATURATES) {
            held.hold(near);
            each_edge(senders, indices, begin, end, at, [&](i64 e, i64 first, i64 last) {
                meet_sender(senders, first, last, weight[e], hill, far, held);
            });
        } else {
            held.meet(far, near);
        }
        __syncthreads();  // whoever still sums the tile before
#pragma unroll
        for (int k = 0; k < HELD; ++k) value[k * THREADS + threadIdx.x] = held.sum[k];
        __syncthreads();
        sum_slots(value, slot_ptr, slots, tile, int(share), out + i64(blockIdx.x) * slots);
    }
}

// A block works on a piece of the edges, piece_ptr[x]:piece_ptr[x + 1], which stand by receiver; no piece is empty.
// blockIdx.y counts tiles of pairs, layer by layer of the weights. OUTPUT: out (pieces, layers, pairs) sums of each piece's signals.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
ligrec_pair_sums(const i64* __restrict__ far_ptr, const i32* __restrict__ far_columns,
                 const VALUE* __restrict__ far_values, const i64* __restrict__ near_ptr,
                 const i32* __restrict__ near_columns, const VALUE* __restrict__ near_values,
                 const i32* __restrict__ pair_far, const i32* __restrict__ pair_near,
                 const i32* __restrict__ receivers, const i32* __restrict__ indices, const VALUE* __restrict__ weight,
                 const i64* __restrict__ piece_ptr, i64 cells, i64 far_entries, i64 near_entries, i64 pairs, i64 edges,
                 i64 pieces, i64 layers, float inverse_half, float exponent, double* __restrict__ out) {
    __shared__ VALUE far[FAR];
    __shared__ VALUE near[NEAR];
    __shared__ Senders at;
    const Cells senders{far_ptr, far_columns, far_values}, own{near_ptr, near_columns, near_values};
    const Hill hill{inverse_half, exponent};
    const int tiles = int((pairs + TILE - 1) / TILE);
    const i64 piece = blockIdx.x, layer = int(blockIdx.y) / tiles, tile = i64(int(blockIdx.y) % tiles) * TILE;
    const VALUE* strength = weight + layer * edges;
    Pairs held(pair_far, pair_near, tile, pairs);
    i64 row = -1;
    each_edge(senders, indices, piece_ptr[piece], piece_ptr[piece + 1], at, [&](i64 e, i64 first, i64 last) {
        if (receivers[e] != row) {
            if (!SATURATES && row >= 0) held.meet(far, near);
            row = receivers[e];
            __syncthreads();
            if (!SATURATES) clear(far);
            clear(near);
            __syncthreads();
            add(own, near_ptr[row], near_ptr[row + 1], VALUE(1), near);
            if (SATURATES) {
                __syncthreads();
                held.hold(near);
            }
        }
        if (SATURATES)
            meet_sender(senders, first, last, strength[e], hill, far, held);
        else
            add(senders, first, last, strength[e], far);
    });
    if (!SATURATES) held.meet(far, near);
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        const i64 p = held.pair(k);
        if (p < pairs) out[(piece * layers + layer) * pairs + p] = held.sum[k];
    }
}
