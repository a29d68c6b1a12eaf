// Ligand-receptor signals along the edges of a graph, reduced as they arise: nothing of edges by pairs is ever stored.
//
// A block lays out over all genes in shared memory what a row's neighbours express (far). What the row's own cell
// expresses (near) meets it there, each thread with other genes and their pairs, and the signals go to the sums of a
// tile of pairs: where there are more pairs than that, every tile does all this again. Neighbours come one after the
// other: every sum has one order.
// Specialised by VALUE (float or double), FAR (genes), TILE (pairs), SATURATES (0: the product, 1: its Hill function),
// THREADS.
#include "common/hill.h"
#include "cuda/layout.h"

namespace metaniche {

// Blocks that a multiprocessor should hold at once, and edges whose senders' expression is on the way: what saturates
// is busy with the signals.
constexpr int BLOCKS = SATURATES ? 8 : 6, AHEAD = SATURATES ? 1 : 4;

// What the own cell of a row expresses, and the pairs of its genes: those of gene g are pair_ptr[g]:pair_ptr[g + 1].
struct Near {
    Cells cells;
    const i64* pair_ptr;
    const i32 *pair_far, *pair_place;  // the far gene of each pair, and the place of its sum
    Entries<1> own;

    __device__ __forceinline__ void look_at(i64 row) {
        own = Entries<1>(cells, cells.ptr[row], cells.ptr[row + 1]);
    }
    // It meets what lies around it; signal(x, y) goes to the sums of the places from `tile` on.
    template <class Signal>
    __device__ __forceinline__ void meet(const VALUE (&around)[FAR], i64 tile, double (&sum)[TILE],
                                         Signal&& signal) const {
        own.each(cells, [&](i32 gene, VALUE y) {
            const i64 last = pair_ptr[gene + 1];
            for (i64 p = pair_ptr[gene]; p < last; ++p) {
                const i64 place = pair_place[p] - tile;
                const VALUE x = around[pair_far[p]];
                if (x != VALUE(0) && place >= 0 && place < TILE) sum[place] += signal(x, y);
            }
        });
    }
};

__device__ __forceinline__ double product(VALUE x, VALUE y) { return double(y) * x; }

// The signals of one edge, where they saturate.
__device__ __forceinline__ void meet_sender(const Cells& far, const Entries<1>& sender, VALUE weight, const Hill& hill,
                                            const Near& near, VALUE (&around)[FAR], i64 tile, double (&sum)[TILE]) {
    clear(around);
    __syncthreads();
    add(far, sender, VALUE(1), around);
    __syncthreads();
    near.meet(around, tile, sum, [&](VALUE x, VALUE y) { return double(weight * hill(x * y)); });
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
        for (int offset = share / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(ALL, sum, offset);
        if (inside && lane == 0) out[s] = float(first == 0 ? sum : out[s] + sum);
    }
}

}  // namespace metaniche

using namespace metaniche;

// A block works on a row; the places of the pairs ascend with their slots.
// OUTPUT: out (rows, slots) for the rows from first_row on.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
ligrec_signal(const i64* __restrict__ far_ptr, const i32* __restrict__ far_columns,
              const VALUE* __restrict__ far_values, const i64* __restrict__ near_ptr,
              const i32* __restrict__ near_columns, const VALUE* __restrict__ near_values,
              const i64* __restrict__ pair_ptr, const i32* __restrict__ pair_far, const i32* __restrict__ pair_place,
              const i64* __restrict__ slot_ptr, const i64* __restrict__ indptr, const i32* __restrict__ indices,
              const VALUE* __restrict__ weight, i64 cells, i64 far_entries, i64 near_entries, i64 near_genes,
              i64 pairs, i64 slots, i64 edges, i64 first_row, i64 rows, i64 share, float inverse_half, float exponent,
              float* __restrict__ out) {
    __shared__ VALUE around[FAR];
    __shared__ double sum[TILE];
    __shared__ Spans at;
    const Cells far{far_ptr, far_columns, far_values};
    Near near{{near_ptr, near_columns, near_values}, pair_ptr, pair_far, pair_place};
    const Hill hill{inverse_half, exponent};
    const i64 row = first_row + blockIdx.x, begin = indptr[row], end = indptr[row + 1];
    near.look_at(row);
    clear(around);
    if (!SATURATES)
        each_edge<1, AHEAD>(far, indices, begin, end, at, [&](i64 e, const Entries<1>& sender) {
            add(far, sender, weight[e], around);
        });
    for (i64 tile = 0; tile < pairs; tile += TILE) {
        clear(sum);
        __syncthreads();
        if (SATURATES)
            each_edge<1, AHEAD>(far, indices, begin, end, at, [&](i64 e, const Entries<1>& sender) {
                meet_sender(far, sender, weight[e], hill, near, around, tile, sum);
            });
        else
            near.meet(around, tile, sum, product);
        __syncthreads();
        sum_slots(sum, slot_ptr, slots, tile, int(share), out + i64(blockIdx.x) * slots);
        __syncthreads();  // whoever still adds up the sums
    }
}

// A block works on a piece of the edges, piece_ptr[x]:piece_ptr[x + 1], which stand by receiver.
// blockIdx.y counts tiles of pairs, layer by layer of the weights.
// OUTPUT: out (pieces, layers, pairs) sums of each piece's signals, at the places of the pairs.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
ligrec_pair_sums(const i64* __restrict__ far_ptr, const i32* __restrict__ far_columns,
                 const VALUE* __restrict__ far_values, const i64* __restrict__ near_ptr,
                 const i32* __restrict__ near_columns, const VALUE* __restrict__ near_values,
                 const i64* __restrict__ pair_ptr, const i32* __restrict__ pair_far,
                 const i32* __restrict__ pair_place, const i32* __restrict__ receivers,
                 const i32* __restrict__ indices, const VALUE* __restrict__ weight,
                 const i64* __restrict__ piece_ptr, i64 cells, i64 far_entries, i64 near_entries, i64 near_genes,
                 i64 pairs, i64 edges, i64 pieces, i64 layers, float inverse_half, float exponent,
                 double* __restrict__ out) {
    __shared__ VALUE around[FAR];
    __shared__ double sum[TILE];
    __shared__ Spans at;
    const Cells far{far_ptr, far_columns, far_values};
    Near near{{near_ptr, near_columns, near_values}, pair_ptr, pair_far, pair_place};
    const Hill hill{inverse_half, exponent};
    const int tiles = int((pairs + TILE - 1) / TILE);
    const i64 piece = blockIdx.x, layer = int(blockIdx.y) / tiles, tile = i64(int(blockIdx.y) % tiles) * TILE;
    const VALUE* strength = weight + layer * edges;
    i64 row = -1;
    clear(sum);
    const auto visit = [&](i64 e, const Entries<1>& sender) {
        if (receivers[e] != row) {
            if (!SATURATES) {
                near.meet(around, tile, sum, product);
                __syncthreads();
                clear(around);
                __syncthreads();
            }
            row = receivers[e];
            near.look_at(row);
        }
        if (SATURATES)
            meet_sender(far, sender, strength[e], hill, near, around, tile, sum);
        else
            add(far, sender, strength[e], around);
    };
    each_edge<1, AHEAD>(far, indices, piece_ptr[piece], piece_ptr[piece + 1], at, visit);
    if (!SATURATES) near.meet(around, tile, sum, product);
    __syncthreads();
    for (i64 place = tile + threadIdx.x; place < min(tile + TILE, pairs); place += THREADS)
        out[(piece * layers + layer) * pairs + place] = sum[place - tile];
}
