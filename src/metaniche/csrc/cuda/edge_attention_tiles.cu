// Attention by tiles: a block owns ROWS consecutive rows of a CSR whose columns ascend, and SLOTS heads of them. The
// distinct columns of the tile are read once, CHUNK at a time, into shared memory; `local` is each edge's place among
// them, so the edges of a chunk stand together in every row. The order of all sums is that of the rows: no atomics.
//
// Specialised by LOCAL (u8 or i16) and CHUNK as well.
#include "cuda/attention.h"

namespace metaniche {

constexpr int ROW_PIECES = SLOTS * WIDTH / VEC;

// The same rows of two arrays.
struct Staged {
    Piece one[CHUNK][ROW_PIECES], two[CHUNK][ROW_PIECES];
};

// A graph's tiles: the columns of each, and each edge's place among those of its tile.
struct Tiles {
    const i64* ptr;
    const i32* columns;
    const LOCAL* local;
};

__device__ __forceinline__ int place_of(const Lane& lane, int piece) {
    return lane.slot * (WIDTH / VEC) + lane.channel(piece) / VEC;
}

// This lane's share of a staged row.
__device__ __forceinline__ void unstage(Share& share, const Piece (&row)[ROW_PIECES], const Lane& lane) {
    share.fill(lane, [&](int p, float (&to)[VEC]) { unpack<VEC, VALUE>(row[place_of(lane, p)], to); });
}

// The block brings `count` rows of two arrays, ROW_LANES lanes a row.
__device__ __forceinline__ void stage(const VALUE* __restrict__ one, const VALUE* __restrict__ two, const i32* columns,
                                      int count, const Lane& lane, Staged& staged) {
#pragma unroll 2
    for (int s = int(threadIdx.x) / ROW_LANES; s < count; s += ROWS) {
        const i64 row = (i64(columns[s]) * HEADS + lane.head) * WIDTH;
#pragma unroll
        for (int p = 0; p < PIECES; ++p)
            if (lane.channel(p) < WIDTH) {
                staged.one[s][place_of(lane, p)] = __ldg(reinterpret_cast<const Piece*>(one + row + lane.channel(p)));
                staged.two[s][place_of(lane, p)] = __ldg(reinterpret_cast<const Piece*>(two + row + lane.channel(p)));
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

// Chunk by chunk, work(edges, column, first, second) on the edges of this lane's row: column(edge) is a place in the
// chunk, first(place, share) and second(place, share) bring what `one` and `two` hold there. All threads of the block
// take part.
template <class Work>
__device__ __forceinline__ void over_chunks(const VALUE* __restrict__ one, const VALUE* __restrict__ two,
                                            const i64* __restrict__ indptr, Tiles tiles, const Lane& lane,
                                            Work&& work) {
    __shared__ Staged staged;
    const i64 last = indptr[lane.row + 1];
    tiles.ptr += blockIdx.x / PARTS;
    tiles.columns += tiles.ptr[0];
    const int count = int(tiles.ptr[1] - tiles.ptr[0]);
    i64 edge = indptr[lane.row];
    for (int from = 0; from < count; from += CHUNK) {
        const int until = min(from + CHUNK, count);
        __syncthreads();  // whoever still reads the chunk before
        stage(one, two, tiles.columns + from, until - from, lane, staged);
        __syncthreads();
        const i64 stop = until == count ? last : first_from(tiles.local, edge, last, until);
        work(
            Edges{edge, i32(stop - edge)}, [&](i64 e) { return i32(tiles.local[e]) - from; },
            [&](i32 s, Share& share) { unstage(share, staged.one[s], lane); },
            [&](i32 s, Share& share) { unstage(share, staged.two[s], lane); });
        edge = stop;
    }
}

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: out (n, HEADS, WIDTH) and lse (n, HEADS).
extern "C" __global__ void __launch_bounds__(THREADS, 2)
attention_tiles_forward(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                        const i64* __restrict__ indptr, const i64* __restrict__ tile_ptr,
                        const i32* __restrict__ columns, const LOCAL* __restrict__ local, i64 tiles, i64 distinct,
                        const float* __restrict__ bias, const float* __restrict__ null, i64 n, i64 edges, float scale,
                        u64 start, u64 limit, float keep, VALUE* __restrict__ out, float* __restrict__ lse) {
    const Lane lane(n);
    const Dropout<float> dropout{start, limit, keep};
    Share query;
    query.read(q, lane.row, lane);
    query.scale(scale);
    Softmax softmax(null[lane.head], lane);
    over_chunks(k, v, indptr, {tile_ptr, columns, local}, lane,
                [&](const Edges& part, auto&& sender, auto&& key, auto&& value) {
                    softmax.take(query, lane, part, bias, dropout, sender, key, value);
                });
    softmax.write(out, lse, lane);
}

// Destination pass. OUTPUT: grad_q (n, HEADS, WIDTH), grad_bias and weight (edges, HEADS), delta (n, HEADS) = grad . out.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
attention_tiles_backward_rows(const VALUE* __restrict__ q, const VALUE* __restrict__ k, const VALUE* __restrict__ v,
                              const i64* __restrict__ indptr, const i64* __restrict__ tile_ptr,
                              const i32* __restrict__ columns, const LOCAL* __restrict__ local, i64 tiles,
                              i64 distinct, const float* __restrict__ bias, const VALUE* __restrict__ out,
                              const float* __restrict__ lse, const VALUE* __restrict__ grad, i64 n, i64 edges,
                              float scale, u64 start, u64 limit, float keep, VALUE* __restrict__ grad_q,
                              float* __restrict__ grad_bias, float* __restrict__ weight, float* __restrict__ delta) {
    const Lane lane(n);
    const Dropout<float> dropout{start, limit, keep};
    RowGradient row;
    row.read(q, out, lse, grad, scale, delta, lane);
    over_chunks(k, v, indptr, {tile_ptr, columns, local}, lane,
                [&](const Edges& part, auto&& sender, auto&& key, auto&& value) {
                    row.take(lane, part, bias, dropout, grad_bias, weight, sender, key, value);
                });
    row.write(grad_q, scale, lane);
}

// Source pass over the edges by sender (ptr, their tiles, and `order` = their place in the CSR).
// OUTPUT: grad_k and grad_v (n, HEADS, WIDTH).
extern "C" __global__ void __launch_bounds__(THREADS, 2)
attention_tiles_backward_columns(const VALUE* __restrict__ q, const VALUE* __restrict__ grad,
                                 const i64* __restrict__ ptr, const i64* __restrict__ tile_ptr,
                                 const i32* __restrict__ columns, const LOCAL* __restrict__ local, i64 tiles,
                                 i64 distinct, const i64* __restrict__ order, const float* __restrict__ grad_bias,
                                 const float* __restrict__ weight, i64 n, i64 edges, float scale,
                                 VALUE* __restrict__ grad_k, VALUE* __restrict__ grad_v) {
    const Lane lane(n);
    SenderGradient sender;
    over_chunks(q, grad, ptr, {tile_ptr, columns, local}, lane,
                [&](const Edges& part, auto&& receiver, auto&& query, auto&& slope) {
                    sender.take(lane, part, order, weight, grad_bias, receiver, query, slope);
                });
    sender.write(grad_k, grad_v, scale, lane);
}
