// Power sums of genes by type and of pairs of genes over the cells, every sum in one fixed order. A warp takes a piece.
// Specialised by SUMS (3, of a piece), THREADS.
#include "cuda/bisect.h"

namespace metaniche {

// Sums of three powers; write() adds up the lanes of a warp.
struct Three {
    double sum[SUMS] = {0, 0, 0};

    __device__ __forceinline__ void write(double* to) {
#pragma unroll
        for (int k = 0; k < SUMS; ++k) {
#pragma unroll
            for (int offset = 16; offset > 0; offset /= 2) sum[k] += __shfl_xor_sync(ALL, sum[k], offset);
            if (threadIdx.x % 32 == 0) to[k] = sum[k];
        }
    }
};

__device__ __forceinline__ i64 piece_of_warp() { return (i64(blockIdx.x) * THREADS + threadIdx.x) / 32; }

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: sums (pieces, SUMS) of x, x^2 and x^3 over the entries starts[piece]..starts[piece + 1].
extern "C" __global__ void __launch_bounds__(THREADS, 1)
gene_powers(const float* __restrict__ values, const i64* __restrict__ starts, i64 entries, i64 pieces,
            double* __restrict__ sums) {
    const i64 piece = piece_of_warp();
    if (piece >= pieces) return;
    const i64 end = starts[piece + 1];
    Three own;
#pragma unroll 4
    for (i64 e = starts[piece] + threadIdx.x % 32; e < end; e += 32) {
        const double x = values[e];
        own.sum[0] += x;
        own.sum[1] += x * x;
        own.sum[2] += x * x * x;
    }
    own.write(sums + piece * SUMS);
}

// A pair's shorter gene is walked along and its longer one is searched. `offset` counts the entries of all shorter genes
// one after another; piece is the range starts[piece]..starts[piece + 1] of them, of one pair.
// OUTPUT: sums (pieces, SUMS) of x y, x^2 y and x y^2 over the cells that have both, x of the shorter gene.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
pair_powers(const i32* __restrict__ cells, const float* __restrict__ values, const i64* __restrict__ ptr,
            const i32* __restrict__ shorter, const i32* __restrict__ longer, const i64* __restrict__ offset,
            const i64* __restrict__ starts, const i64* __restrict__ pair, i64 entries, i64 genes, i64 pairs, i64 pieces,
            double* __restrict__ sums) {
    const i64 piece = piece_of_warp();
    if (piece >= pieces) return;
    const i64 own_pair = pair[piece], shift = ptr[shorter[own_pair]] - offset[own_pair];
    const i64 end = starts[piece + 1] + shift, last = ptr[longer[own_pair] + 1];
    i64 at = ptr[longer[own_pair]];
    Three own;
    for (i64 e = starts[piece] + shift + threadIdx.x % 32; e < end; e += 32) {
        at = lower_bound(cells, at, last, cells[e]);
        if (at == last) break;
        if (cells[at] != cells[e]) continue;
        const double x = values[e], y = values[at], product = x * y;
        own.sum[0] += product;
        own.sum[1] += product * x;
        own.sum[2] += product * y;
    }
    own.write(sums + piece * SUMS);
}
