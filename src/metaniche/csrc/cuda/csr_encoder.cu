// Sparse rows times dense weights, and the products of two dense rows at the stored entries. A warp owns a row of the
// CSR, nothing of entries by width is stored, and every sum has one order: no atomics.
//
// Specialised by VALUE (float or double), COLUMNS and ENTRIES (see row_team.h; together 32), PIECES (columns a lane
// holds, COLUMNS apart), THREADS.
#include "cuda/row_team.h"

using namespace metaniche;

// OUTPUT: out (rows, width) = sum of values[e] * dense[columns[e]] over the entries of each row; `dense` (inner, width).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
csr_times_dense(const i64* __restrict__ indptr, const i32* __restrict__ columns, const VALUE* __restrict__ values,
                const VALUE* __restrict__ dense, i64 rows, i64 entries, i64 inner, i64 width,
                VALUE* __restrict__ out) {
    const Team team(COLUMNS * PIECES);
    if (team.row >= rows) return;
    VALUE sum[PIECES];
#pragma unroll
    for (int p = 0; p < PIECES; ++p) sum[p] = VALUE(0);
    const i64 last = indptr[team.row + 1];
#pragma unroll 4
    for (i64 e = indptr[team.row] + team.entry; e < last; e += ENTRIES) {
        const VALUE value = values[e];
        const VALUE* from = dense + i64(columns[e]) * width;
#pragma unroll
        for (int p = 0; p < PIECES; ++p) {
            const i64 column = team.column + p * COLUMNS;
            if (column < width) sum[p] += value * from[column];
        }
    }
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        const i64 column = team.column + p * COLUMNS;
        const VALUE total = team.over_entries(sum[p]);
        if (team.entry == 0 && column < width) out[team.row * width + column] = total;
    }
}

// OUTPUT: out (entries), at each the product of its row of `grad` (rows, width) and its column's of `dense`.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
csr_entry_products(const i64* __restrict__ indptr, const i32* __restrict__ columns, const VALUE* __restrict__ dense,
                   const VALUE* __restrict__ grad, i64 rows, i64 entries, i64 inner, i64 width,
                   VALUE* __restrict__ out) {
    const Team team(COLUMNS);
    if (team.row >= rows) return;
    const VALUE* own = grad + team.row * width;
    const i64 last = indptr[team.row + 1];
    for (i64 start = indptr[team.row]; start < last; start += ENTRIES) {
        // Beyond the row's end the last entry is read once more and not written.
        const i64 e = start + team.entry, here = e < last ? e : last - 1;
        const VALUE* other = dense + i64(columns[here]) * width;
        VALUE sum = VALUE(0);
#pragma unroll 4
        for (i64 column = team.column; column < width; column += COLUMNS) sum += own[column] * other[column];
        sum = team.over_columns(sum);
        if (team.column == 0 && e < last) out[e] = sum;
    }
}
