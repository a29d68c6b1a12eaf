// Few nearest neighbours, a thread a cell: the MOST smallest float32 squares stay in registers, in ascending order.
// Where they do not tell for sure which neighbours are the nearest (equal distances, neighbours many bins away,
// crowds), the cell is left to nearest.cu.
// Specialised by DIM, DENSE (see cell_list.h), MOST (one more than neighbours, or still more), THREADS.
#include "cuda/rings.h"

namespace metaniche {

// How many bins far a cell looks at once, and how far at most; how many candidates it looks at.
constexpr i64 FIRST_RING = DIM == 2 ? 2 : 1, LAST_RING = FIRST_RING + 2;
constexpr i32 MOST_SEEN = 1024;

struct Few {
    float square[MOST];
    i32 cell[MOST];

    __device__ __forceinline__ Few() {
#pragma unroll
        for (int t = 0; t < MOST; ++t) {
            square[t] = __int_as_float(0x7f800000);
            cell[t] = 0;
        }
    }
    __device__ __forceinline__ void offer(float s, i32 j) {
        bool nearer = s < square[MOST - 1];
        if (!nearer) return;
#pragma unroll
        for (int t = MOST - 1; t > 0; --t) {
            const bool moves = s < square[t - 1];
            cell[t] = moves ? cell[t - 1] : nearer ? j : cell[t];
            square[t] = moves ? square[t - 1] : nearer ? s : square[t];
            nearer = moves;
        }
        cell[0] = nearer ? j : cell[0];
        square[0] = nearer ? s : square[0];
    }
    __device__ __forceinline__ float operator[](int wanted) const {
        float found = 0.0f;
#pragma unroll
        for (int t = 0; t < MOST; ++t) found = t == wanted ? square[t] : found;
        return found;
    }
};

// Looks at the cells around; false where the `want` nearest are not sure.
__device__ __forceinline__ bool search(const Rings& rings, int want, Few& few) {
    i32 seen = 0;
    for (i64 ring = FIRST_RING; ring <= LAST_RING; ++ring) {
        rings.visit(ring, ring == FIRST_RING, [&](Run run) {
            seen += run.last - run.first;
            if (seen > MOST_SEEN) return;
            for (i32 j = run.first; j < run.last; ++j)
                if (j != rings.i) few.offer(rings.cells.square(rings.i, j), j);
        });
        if (seen > MOST_SEEN) return false;
        // What is farther than this is farther than all of them; below float32's range nothing is sure.
        const double reach = double(few[want - 1]) * (1.0 + 4.0 * ROUNDING) + 1e-29;
        const double unseen = rings.unseen_from(ring);
        if (unseen > 0.0 && reach < unseen * unseen) return reach < few[want];
    }
    return false;
}

}  // namespace metaniche

using namespace metaniche;

// Row r has indptr[r + 1] - indptr[r] < MOST neighbours, fewer than its sample has cells.
// OUTPUT: unsure (n), of the sorted cells; columns and lengths (edges) of the others, columns ascending.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
nearest_few(const float* __restrict__ axes, const i32* __restrict__ ids, const i32* __restrict__ sample,
            const double* __restrict__ low, const double* __restrict__ side, const i64* __restrict__ bins,
            const i64* __restrict__ base, const i64* __restrict__ occupied, const i32* __restrict__ starts, i64 n,
            i64 samples, i64 n_occupied, i64 n_starts, const i64* __restrict__ indptr, i64 edges,
            i32* __restrict__ columns, float* __restrict__ lengths, u8* __restrict__ unsure) {
    const i64 i = i64(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= n) return;
    const i64 row = ids[i], first = indptr[row];
    const int want = int(indptr[row + 1] - first);
    const CellList cells{axes, n, low, side, bins, base, occupied, starts, n_occupied};
    Few few;
    const bool sure = want <= 0 || search(Rings(cells, i, sample[i]), want, few);
    unsure[i] = !sure;
    if (!sure) return;
    i32 name[MOST - 1];
#pragma unroll
    for (int t = 0; t < MOST - 1; ++t) name[t] = t < want ? ids[few.cell[t]] : 0x7fffffff;
#pragma unroll
    for (int t = 0; t < MOST - 1; ++t) {
        int rank = 0;
#pragma unroll
        for (int u = 0; u < MOST - 1; ++u) rank += name[u] < name[t];
        if (t >= want) break;
        columns[first + rank] = name[t];
        lengths[first + rank] = float(cells.distance(i, few.cell[t]));
    }
}
