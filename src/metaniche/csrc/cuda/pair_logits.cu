// Bilinear ligand-receptor logits of every edge and head, and the gradient of the rows' own expression.
//
// A block works on a row: near is what the row's own cell expresses, far what its neighbours do. Sums over genes lie
// in shared memory, COLUMNS heads side by side, and have one order each: no atomics.
// Specialised by VALUE (float or double), FAR and NEAR (genes), COLUMNS (power of two <= 32), THREADS.
#include "cuda/layout.h"

using namespace metaniche;

// OUTPUT: logits (edges, heads) = sum over the sender's genes of x_g v_gh, with v_gh = sum_p w_ph y_p of the row;
// blockIdx.y counts tiles of COLUMNS heads. Pairs stand by their far gene.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
pair_logits_forward(const i64* __restrict__ far_ptr, const i32* __restrict__ far_columns,
                    const VALUE* __restrict__ far_values, const i64* __restrict__ near_ptr,
                    const i32* __restrict__ near_columns, const VALUE* __restrict__ near_values,
                    const i64* __restrict__ pair_ptr, const i32* __restrict__ pair_near,
                    const VALUE* __restrict__ pair_weight, const i64* __restrict__ indptr,
                    const i32* __restrict__ indices, i64 cells, i64 far_entries, i64 near_entries, i64 genes,
                    i64 pairs, i64 edges, i64 heads, VALUE* __restrict__ logits) {
    __shared__ VALUE near[NEAR];
    __shared__ VALUE wanted[FAR * COLUMNS];
    const i64 row = blockIdx.x, begin = indptr[row], end = indptr[row + 1];
    if (begin == end) return;
    const i64 head = i64(blockIdx.y) * COLUMNS + threadIdx.x % COLUMNS;
    clear(near);
    __syncthreads();
    const Cells cells_near{near_ptr, near_columns, near_values};
    add(cells_near, {cells_near, near_ptr[row], near_ptr[row + 1]}, VALUE(1), near);
    __syncthreads();
    for (int cell = int(threadIdx.x); cell < int(genes) * COLUMNS; cell += THREADS) {
        VALUE sum = 0;
        const i64 last = head < heads ? pair_ptr[cell / COLUMNS + 1] : 0;
        for (i64 p = pair_ptr[cell / COLUMNS]; p < last; ++p) {
            const VALUE y = near[pair_near[p]];
            if (y != VALUE(0)) sum += pair_weight[p * heads + head] * y;
        }
        wanted[cell] = sum;
    }
    __syncthreads();
    const int lane = int(threadIdx.x) % 32;
    for (i64 e = begin + threadIdx.x / 32; e < end; e += THREADS / 32) {
        const i64 sender = indices[e], last = far_ptr[sender + 1];
        VALUE sum = 0;
        for (i64 k = far_ptr[sender] + lane / COLUMNS; k < last; k += 32 / COLUMNS)
            sum += far_values[k] * wanted[far_columns[k] * COLUMNS + lane % COLUMNS];
#pragma unroll
        for (int offset = COLUMNS; offset < 32; offset *= 2) sum += __shfl_xor_sync(ALL, sum, offset);
        if (lane < COLUMNS && head < heads) logits[e * heads + head] = sum;
    }
}

// OUTPUT: grad_near (entries) = sum_p sum_h w_ph u_ph, with u_gh = sum over the row's edges of grad_eh x_g, for
// every entry of the row's own expression; without columns the entries are those of a dense matrix. Pairs stand by
// their near gene.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
pair_logits_backward(const i64* __restrict__ far_ptr, const i32* __restrict__ far_columns,
                     const VALUE* __restrict__ far_values, const i64* __restrict__ near_ptr,
                     const i32* __restrict__ near_columns, const i64* __restrict__ pair_ptr,
                     const i32* __restrict__ pair_far, const VALUE* __restrict__ pair_weight,
                     const i64* __restrict__ indptr, const i32* __restrict__ indices, const VALUE* __restrict__ grad,
                     i64 cells, i64 far_entries, i64 columns, i64 entries, i64 genes, i64 pairs, i64 edges, i64 heads,
                     VALUE* __restrict__ grad_near) {
    __shared__ VALUE around[FAR * COLUMNS];
    __shared__ Spans at;
    const Cells far{far_ptr, far_columns, far_values};
    const i64 row = blockIdx.x;
    for (i64 tile = 0; tile < heads; tile += COLUMNS) {
        const int count = int(min(heads - tile, i64(COLUMNS))), own = int(threadIdx.x) % COLUMNS;
        clear(around);
        each_edge<COLUMNS, 2>(far, indices, indptr[row], indptr[row + 1], at, [&](i64 e, const auto& sender) {
            if (own >= count) return;
            const VALUE slope = grad[e * heads + tile + own];
            sender.each(far, [&](i32 gene, VALUE value) { around[gene * COLUMNS + own] += slope * value; });
        });
        __syncthreads();
        for (i64 k = near_ptr[row] + threadIdx.x; k < near_ptr[row + 1]; k += THREADS) {
            const i64 gene = columns == 0 ? k - near_ptr[row] : near_columns[k];
            VALUE sum = tile == 0 ? VALUE(0) : grad_near[k];
            for (i64 p = pair_ptr[gene]; p < pair_ptr[gene + 1]; ++p)
                for (int h = 0; h < count; ++h)
                    sum += pair_weight[p * heads + tile + h] * around[pair_far[p] * COLUMNS + h];
            grad_near[k] = sum;
        }
        __syncthreads();  // whoever still reads the sums
    }
}
