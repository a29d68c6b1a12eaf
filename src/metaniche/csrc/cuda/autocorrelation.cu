// Sums over cells x genes for spatial autocorrelation: a cell's lag stays in registers, sums over cells have one order.
//
// COLUMNS lanes work on neighbouring genes, WIDE each, and TEAMS rows of a block's range at once. blockIdx.y counts
// tiles of genes.
// Specialised by VALUE (float or double), COLUMNS (power of two <= 32), WIDE, SUMS (4, of a gene), THREADS.
#include "common/autocorrelation.h"

namespace metaniche {

constexpr int TEAMS = THREADS / COLUMNS;

// The genes of a thread; beyond the last one it reads the last again and writes nothing.
struct Genes {
    i64 first, width;

    __device__ __forceinline__ explicit Genes(i64 width)
        : first(i64(blockIdx.y) * COLUMNS * WIDE + threadIdx.x % COLUMNS), width(width) {}
    __device__ __forceinline__ i64 wanted(int p) const { return first + p * COLUMNS; }
    __device__ __forceinline__ i64 column(int p) const { return min(wanted(p), width - 1); }
};

// The rows of a block, of which a team takes every TEAMS-th.
struct Rows {
    i64 first, last;

    __device__ __forceinline__ Rows(i64 a_block, i64 n)
        : first(blockIdx.x * a_block + threadIdx.x / COLUMNS), last(min((blockIdx.x + 1) * a_block, n)) {}
};

// lag[p] = sum_j w_ij (x_j - mean) of the thread's genes.
__device__ __forceinline__ void lag_of(const VALUE* x, const VALUE* mean, const i64* indptr, const i32* indices,
                                       const VALUE* weight, i64 row, const Genes& genes, VALUE (&lag)[WIDE]) {
    VALUE origin[WIDE];
#pragma unroll
    for (int p = 0; p < WIDE; ++p) {
        origin[p] = mean[genes.column(p)];
        lag[p] = VALUE(0);
    }
    const i64 end = indptr[row + 1];
#pragma unroll 2
    for (i64 e = indptr[row]; e < end; ++e) {
        const VALUE w = weight[e];
        const VALUE* neighbour = x + indices[e] * genes.width;
#pragma unroll
        for (int p = 0; p < WIDE; ++p) lag[p] += w * (neighbour[genes.column(p)] - origin[p]);
    }
}

// The sum over the teams, for the first COLUMNS threads; all threads of the block take part.
__device__ __forceinline__ double sum_of_teams(double x, double (&part)[THREADS]) {
    const int t = int(threadIdx.x);
    part[t] = x;
    __syncthreads();
    for (int half = THREADS / 2; half >= COLUMNS; half /= 2) {
        if (t < half) part[t] += part[t + half];
        __syncthreads();
    }
    return part[t];
}

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: sums (blocks, width, SUMS), the SpatialSums of each gene over the rows of a block.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
spatial_sums(const VALUE* __restrict__ x, const VALUE* __restrict__ mean, const i64* __restrict__ indptr,
             const i32* __restrict__ indices, const VALUE* __restrict__ weight, const double* __restrict__ degree, i64 n,
             i64 edges, i64 width, i64 rows_a_block, i64 blocks, double* __restrict__ sums) {
    __shared__ double part[THREADS];
    const Genes genes(width);
    const Rows rows(rows_a_block, n);
    SpatialSums own[WIDE] = {};
    for (i64 row = rows.first; row < rows.last; row += TEAMS) {
        VALUE lag[WIDE];
        lag_of(x, mean, indptr, indices, weight, row, genes, lag);
#pragma unroll
        for (int p = 0; p < WIDE; ++p) {
            const i64 g = genes.column(p);
            add_cell(own[p], double(x[row * width + g] - mean[g]), lag[p], degree[row]);
        }
    }
#pragma unroll
    for (int p = 0; p < WIDE; ++p) {
        const double all[SUMS] = {own[p].cross, own[p].around, own[p].squares, own[p].fourths};
#pragma unroll
        for (int k = 0; k < SUMS; ++k) {
            const double sum = sum_of_teams(all[k], part);
            if (threadIdx.x < COLUMNS && genes.wanted(p) < width)
                sums[(blockIdx.x * width + genes.wanted(p)) * SUMS + k] = sum;
        }
    }
}

// OUTPUT: lag (rows, width) of the cells first, first + 1, ...
extern "C" __global__ void __launch_bounds__(THREADS, 1)
spatial_lag(const VALUE* __restrict__ x, const VALUE* __restrict__ mean, const i64* __restrict__ indptr,
            const i32* __restrict__ indices, const VALUE* __restrict__ weight, i64 n, i64 edges, i64 width, i64 first,
            i64 rows, VALUE* __restrict__ lag) {
    const i64 row = i64(blockIdx.x) * TEAMS + threadIdx.x / COLUMNS;
    if (row >= rows) return;
    const Genes genes(width);
    VALUE own[WIDE];
    lag_of(x, mean, indptr, indices, weight, first + row, genes, own);
#pragma unroll
    for (int p = 0; p < WIDE; ++p)
        if (genes.wanted(p) < width) lag[row * width + genes.wanted(p)] = own[p];
}

// A thread takes one pair (column of lag, column of y). OUTPUT: sums (blocks, pairs) of lag (y - mean) over a block's rows.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
pair_products(const VALUE* __restrict__ lag, const VALUE* __restrict__ y, const VALUE* __restrict__ mean,
              const i32* __restrict__ from, const i32* __restrict__ to, i64 rows, i64 width, i64 y_width, i64 pairs,
              i64 rows_a_block, i64 blocks, double* __restrict__ sums) {
    __shared__ double part[THREADS];
    const i64 pair = i64(blockIdx.y) * COLUMNS + threadIdx.x % COLUMNS;
    const i64 a = from[min(pair, pairs - 1)], b = to[min(pair, pairs - 1)];
    const Rows own(rows_a_block, rows);
    const VALUE origin = mean[b];
    double sum = 0;
    for (i64 row = own.first; row < own.last; row += TEAMS)
        sum += double(lag[row * width + a]) * double(y[row * y_width + b] - origin);
    sum = sum_of_teams(sum, part);
    if (threadIdx.x < COLUMNS && pair < pairs) sums[blockIdx.x * pairs + pair] = sum;
}
