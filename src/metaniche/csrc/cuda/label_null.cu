// Permutations of labels and sums of expression by permuted label, 32 permutations at a time: a lane is a permutation.
// Every sum over cells is one of whole numbers, so that the order in which they come changes nothing.
//
// Permutation k is the shuffle of common/shuffle.h: step i, from the last to the first, swaps position i with
// position draw(i) <= i. No shuffle is carried out. Whatever stands at `place` before step i was put there by the
// latest step before it, the smallest s > i with draw(s) = place, and stood at position s before that step. So where
// the label of a cell comes from is found by following such steps; they are in lists by draw.
// Specialised by TYPES (power of two, at least the number of types), PERMUTATIONS (32), THREADS.
#include "common/shuffle.h"

namespace metaniche {

constexpr int WARPS = THREADS / 32;

// The smallest s > after in the list that starts with `step` (-1 ends it), or -1.
__device__ __forceinline__ i32 next_step(i32 step, const i32* next, i64 after) {
    i32 found = -1;
    for (; step >= 0; step = next[step])
        if (step > after && (found == -1 || step < found)) found = step;
    return found;
}

// Of one test: permutations that reach its score and permutations drawn.
struct Tally {
    i32 reached, drawn;

    // Adds the `count` permutations of which `votes` reach the score; the one that is `enough` ends the test.
    __device__ __forceinline__ void add(u32 votes, i32 count, i64 enough) {
        i64 missing = enough - reached;
        if (missing == 0) return;
        if (__popc(votes) < missing) {
            reached += __popc(votes);
            drawn += count;
            return;
        }
        for (; missing > 1; --missing) votes &= votes - 1;
        drawn += __ffs(int(votes));
        reached = i32(enough);
    }
};

}  // namespace metaniche

using namespace metaniche;

// The steps of permutations first, first + 1, ... in lists by draw; blockIdx.y counts permutations.
// `heads` (lists, n) holds -1. OUTPUT: heads, next (lists, n).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
shuffle_lists(i64 n, i64 lists, u64 seed, i64 first, i32* __restrict__ heads, i32* __restrict__ next) {
    const i64 i = i64(blockIdx.x) * THREADS + threadIdx.x, own = blockIdx.y * n;
    if (i >= n) return;
    const i64 draw = i64(shuffle_draw(shuffle_start(seed, u64(first + blockIdx.y)), u64(i)));
    // The order of a list depends on the threads; what is looked for in it does not.
    next[own + i] = atomicExch(&heads[own + draw], i32(i));
}

// The permuted label of every cell. OUTPUT: labels (n, PERMUTATIONS), the columns slot, slot + 1, ... of it.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
shuffle_labels(const u8* __restrict__ types, const i32* __restrict__ heads, const i32* __restrict__ next, i64 n,
               i64 lists, u64 seed, i64 first, i64 slot, u8* __restrict__ labels) {
    const i64 i = i64(blockIdx.x) * THREADS + threadIdx.x, own = blockIdx.y * n;
    if (i >= n) return;
    i64 place = i64(shuffle_draw(shuffle_start(seed, u64(first + blockIdx.y)), u64(i)));
    for (i32 s = next_step(heads[own + place], next + own, i); s != -1; s = next_step(heads[own + s], next + own, s))
        place = s;
    labels[i * PERMUTATIONS + slot + blockIdx.y] = types[place];
}

// A block takes the entries starts[piece]..starts[piece + 1] of one gene: `cells` and the whole numbers `values`.
// OUTPUT: sums (pieces, n_types, PERMUTATIONS) of the genes that are needed.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
label_sums(const i32* __restrict__ cells, const i16* __restrict__ values, const i64* __restrict__ starts,
           const i64* __restrict__ gene, const u8* __restrict__ needed, const u8* __restrict__ labels, i64 n,
           i64 entries, i64 pieces, i64 genes, i64 n_types, i32* __restrict__ sums) {
    __shared__ i32 own[TYPES * PERMUTATIONS];
    const i64 piece = blockIdx.x, size = n_types * PERMUTATIONS;
    if (!needed[gene[piece]]) return;
    for (i64 k = threadIdx.x; k < size; k += THREADS) own[k] = 0;
    __syncthreads();
    const int lane = int(threadIdx.x) & 31;
    const i64 end = starts[piece + 1];
#pragma unroll 4
    for (i64 e = starts[piece] + threadIdx.x / 32; e < end; e += WARPS) {
        const i32 value = values[e];
        atomicAdd(&own[labels[i64(cells[e]) * PERMUTATIONS + lane] * PERMUTATIONS + lane], value);
    }
    __syncthreads();
    for (i64 k = threadIdx.x; k < size; k += THREADS) sums[piece * size + k] = own[k];
}

// OUTPUT: means (genes, n_types, PERMUTATIONS) of the genes that are needed, from the sums of their pieces.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
label_means(const i32* __restrict__ sums, const i64* __restrict__ piece_ptr, const u8* __restrict__ needed,
            const double* __restrict__ factor, i64 genes, i64 pieces, i64 n_types, double* __restrict__ means) {
    const i64 item = i64(blockIdx.x) * THREADS + threadIdx.x, size = n_types * PERMUTATIONS, gene = item / size;
    if (gene >= genes || !needed[gene]) return;
    i64 total = 0;
    for (i64 p = piece_ptr[gene]; p < piece_ptr[gene + 1]; ++p) total += sums[p * size + item % size];
    means[item] = double(total) * factor[item / PERMUTATIONS];
}

// A warp takes a pair and a type of senders. Counts the first `count` permutations whose score reaches the threshold,
// in order; a test with `enough` of them draws no more. CHANGES: reached, drawn (pairs, n_types, n_types).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
label_counts(const double* __restrict__ means, const i32* __restrict__ lig, const i32* __restrict__ rec,
             const double* __restrict__ threshold, i64 pairs, i64 genes, i64 n_types, i64 count, i64 enough,
             i32* __restrict__ reached, i32* __restrict__ drawn) {
    const int lane = int(threadIdx.x) & 31;
    const i64 item = (i64(blockIdx.x) * THREADS + threadIdx.x) / 32, pair = item / n_types;
    if (pair >= pairs) return;
    const double sender = means[(lig[pair] * n_types + item % n_types) * PERMUTATIONS + lane];
    const double* receivers = means + rec[pair] * n_types * PERMUTATIONS + lane;
    const u32 counted = ALL >> (PERMUTATIONS - count);
    for (i64 first = 0; first < n_types; first += 32) {
        const i64 receiver = first + lane, test = item * n_types + receiver;
        const i64 last = min(first + 32, n_types);
        u32 votes = 0;
        for (i64 b = first; b < last; ++b) {
            const bool reaches = sender + receivers[b * PERMUTATIONS] >= threshold[item * n_types + b];
            const u32 all = __ballot_sync(ALL, reaches);
            if (b == receiver) votes = all & counted;
        }
        if (receiver >= n_types) continue;
        Tally tally{reached[test], drawn[test]};
        tally.add(votes, i32(count), enough);
        reached[test] = tally.reached;
        drawn[test] = tally.drawn;
    }
}
