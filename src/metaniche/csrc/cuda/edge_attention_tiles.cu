// Attention by tiles: a block owns ROWS consecutive rows of a CSR whose columns ascend, and SLOTS heads of them. The
// distinct senders of the tile are read once, CHUNK at a time, into shared memory; `local` is each edge's place among
// them, so the edges of a chunk stand together in every row. The order of all sums is that of the rows: no atomics.
//
// Specialised by LOCAL (u8 or i16) and CHUNK as well.
#include "cuda/attention.h"

namespace metaniche {

// Blocks that share a multiprocessor, if the registers are to be had without spilling.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr int BACKWARD_BLOCKS = 1;
#else
constexpr int BACKWARD_BLOCKS = 2;
#endif
constexpr int ROW_PIECES = SLOTS * WIDTH / VEC;
using Chunk = Piece[CHUNK][ROW_PIECES];

__device__ __forceinline__ int place_of(const Lane& lane, int piece) {
    return lane.slot * (WIDTH / VEC) + lane.channel(piece) / VEC;
}

// This lane's share of a sender's staged row.
__device__ __forceinline__ void take(Share& share, const Piece (&row)[ROW_PIECES], const Lane& lane) {
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        if (lane.channel(p) < WIDTH) {
            unpack<VEC, VALUE>(row[place_of(lane, p)], share.x[p]);
        } else {
#pragma unroll
            for (int c = 0; c < VEC; ++c) share.x[p][c] = 0.0f;
        }
    }
}

// The block brings `count` senders' keys and values, ROW_LANES lanes a sender.
__device__ __forceinline__ void stage(const VALUE* __restrict__ k, const VALUE* __restrict__ v, const i32* senders,
                                      int count, const Lane& lane, Chunk& keys, Chunk& values) {
#pragma unroll 1  // more at once would spill
    for (int s = int(threadIdx.x) / ROW_LANES; s < count; s += ROWS) {
        const i64 row = (i64(senders[s]) * HEADS + lane.head) * WIDTH;
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
            if (lane.channel(p) < WIDTH) {
                keys[s][place_of(lane, p)] = __ldg(reinterpret_cast<const Piece*>(k + row + lane.channel(p)));
                values[s][place_of(lane, p)] = __ldg(reinterpret_cast<const Piece*>(v + row + lane.channel(p)));
            }
    }
}

// The first edge of low..high whose place is not below `bound`.
__device__ __forceinline__ i64 first_from(const LOCAL* __restrict__ local, i64 low, i64 high, int bound) {
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (int(local[middle]) < bound) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Chunk by chunk, work(first, last, fetch) on the edges of this lane's row; all threads of the block take part.
template <class Work>
__device__ __forceinline__ void over_chunks(const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                                            const i64* __restrict__ indptr, const i64* __restrict__ tile_ptr,
                                            const i32* __restrict__ senders, const LOCAL* __restrict__ local, i64 n,
                                            const Lane& lane, Work&& work) {
    __shared__ Chunk keys;
    __shared__ Chunk values;
    const bool inside = lane.row < n;
    const i64 last = inside ? indptr[lane.row + 1] : 0;
    tile_ptr += blockIdx.x / PARTS;
    const int count = int(tile_ptr[1] - tile_ptr[0]);
    i64 edge = inside ? indptr[lane.row] : 0;
    for (int from = 0; from < count; from += CHUNK) {
        const int until = min(from + CHUNK, count);
        __syncthreads();  // whoever still reads the chunk before
        stage(k, v, senders + tile_ptr[0] + from, until - from, lane, keys, values);
        __syncthreads();
        const i64 stop = until == count ? last : first_from(local, edge, last, until);
        work(edge, stop, [&](i64 e, Share& key, Share& value) {
            const int s = int(local[e]) - from;
            take(key, keys[s], lane);
            take(value, values[s], lane);
        });
        edge = stop;
    }
}

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: out (n, HEADS, WIDTH) and lse (n, HEADS).
extern "C" __global__ void __launch_bounds__(THREADS, 2)
attention_tiles_forward(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                        const i64* __restrict__ indptr, const i64* __restrict__ tile_ptr,
                        const i32* __restrict__ senders, const LOCAL* __restrict__ local, i64 tiles, i64 distinct,
                        const float* __restrict__ bias, const float* __restrict__ null, i64 n, i64 edges, float scale,
                        u64 start, u64 limit, float keep, VALUE* __restrict__ out, float* __restrict__ lse) {
    const Lane lane;
    const Dropout<float> dropout{start, limit, keep};
    Share query;
    query.clear();
    if (lane.row < n) query.read(q, lane.row, lane);
    query.scale(scale);
    Softmax softmax(null[lane.head]);
    over_chunks(k, v, indptr, tile_ptr, senders, local, n, lane, [&](i64 first, i64 last, auto&& fetch) {
        softmax.take<1>(query, lane, first, last, bias, dropout, fetch);
    });
    if (lane.row < n) softmax.write(out, lse, lane);
}

// Destination pass. OUTPUT: grad_q (n, HEADS, WIDTH), grad_bias (edges, HEADS), delta (n, HEADS) = grad . out.
extern "C" __global__ void __launch_bounds__(THREADS, BACKWARD_BLOCKS)
attention_tiles_backward_rows(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                              const i64* __restrict__ indptr, const i64* __restrict__ tile_ptr,
                              const i32* __restrict__ senders, const LOCAL* __restrict__ local, i64 tiles,
                              i64 distinct, const float* __restrict__ bias, const VALUE* __restrict__ out,
                              const float* __restrict__ lse, const VALUE* __restrict__ grad, i64 n, i64 edges,
                              float scale, u64 start, u64 limit, float keep, VALUE* __restrict__ grad_q,
                              float* __restrict__ grad_bias, float* __restrict__ delta) {
    const Lane lane;
    const Dropout<float> dropout{start, limit, keep};
    RowGradient row;
    if (lane.row < n) row.read(q, out, lse, grad, scale, delta, lane);
    over_chunks(k, v, indptr, tile_ptr, senders, local, n, lane, [&](i64 first, i64 last, auto&& fetch) {
        row.take(lane, first, last, bias, scale, dropout, grad_bias, fetch);
    });
    if (lane.row < n) row.sum.write(grad_q, lane);
}
