// Sums of edge scores that fix their moments under permutation of the cells' labels; every sum in one fixed order.
// Specialised by LANES (power of two <= 32), SUMS (4, of a cell), THREADS.
#include "cuda/bisect.h"

namespace metaniche {

__device__ __forceinline__ double team_sum(double x) {
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(ALL, x, offset);
    return x;
}

}  // namespace metaniche

using namespace metaniche;

// LANES lanes work on a cell; `ptr`, `receivers` and `order` are its edges as a sender, receivers ascending.
// OUTPUT: sums (n, SUMS): w over the row, over the column, w^2 over the row, and w_ij w_ji over the row.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
edge_cell_sums(const i64* __restrict__ indptr, const i32* __restrict__ indices, const double* __restrict__ score,
               const i64* __restrict__ ptr, const i32* __restrict__ receivers, const i64* __restrict__ order, i64 n,
               i64 edges, double* __restrict__ sums) {
    const int at = int(threadIdx.x) % LANES;
    // Lanes beyond the last cell do the same as its own and write nothing: all of a warp meet in the sums.
    const i64 wanted = (i64(blockIdx.x) * THREADS + threadIdx.x) / LANES, cell = min(wanted, n - 1);
    const i64 first = ptr[cell], last = ptr[cell + 1], end = indptr[cell + 1];
    double row = 0, column = 0, squares = 0, mutual = 0;
    for (i64 e = indptr[cell] + at; e < end; e += LANES) {
        const double w = score[e];
        const i32 sender = indices[e];
        row += w;
        squares += w * w;
        const i64 back = lower_bound(receivers, first, last, sender);
        if (back < last && receivers[back] == sender) mutual += w * score[order[back]];
    }
    for (i64 e = first + at; e < last; e += LANES) column += score[order[e]];
    row = team_sum(row);
    column = team_sum(column);
    squares = team_sum(squares);
    mutual = team_sum(mutual);
    if (at != 0 || wanted != cell) return;
    double* to = sums + cell * SUMS;
    to[0] = row;
    to[1] = column;
    to[2] = squares;
    to[3] = mutual;
}

// A warp takes the rows `cells[starts[piece]:starts[piece + 1]]`, all of one type, and each lane one type of senders;
// blockIdx.y counts 32 of those. The lanes bring 32 edges at once, which all then look at in their order.
// OUTPUT: sums (pieces, n_types) of the scores by type of sender.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
edge_type_sums(const i64* __restrict__ indptr, const i32* __restrict__ indices, const double* __restrict__ score,
               const i32* __restrict__ types, const i64* __restrict__ cells, const i64* __restrict__ starts, i64 n,
               i64 edges, i64 pieces, i64 n_types, double* __restrict__ sums) {
    const i64 piece = (i64(blockIdx.x) * THREADS + threadIdx.x) / 32;
    const i64 own = i64(blockIdx.y) * 32 + threadIdx.x % 32;
    if (piece >= pieces) return;
    double sum = 0;
    for (i64 k = starts[piece]; k < starts[piece + 1]; ++k) {
        const i64 row = cells[k], end = indptr[row + 1];
        for (i64 first = indptr[row]; first < end; first += 32) {
            const i64 mine = first + threadIdx.x % 32;
            const i32 type = mine < end ? types[indices[mine]] : -1;
            const double w = mine < end ? score[mine] : 0.0;
            const int count = int(min(end - first, i64(32)));
            for (int e = 0; e < count; ++e) {
                const double other = __shfl_sync(ALL, w, e);
                if (__shfl_sync(ALL, type, e) == own) sum += other;
            }
        }
    }
    if (own < n_types) sums[piece * n_types + own] = sum;
}
