// k nearest neighbours on a cell list, a warp a cell: rings of bins around its own until no unseen cell can be among
// the k nearest. The list of the best is spread over the lanes: position p is slot p / 32 of lane p % 32.
// Specialised by DIM, DENSE (see cell_list.h), SLOTS (k <= 32 * SLOTS), THREADS.
#include "cuda/rings.h"

namespace metaniche {

// Past this many rings the cell stands alone, and every cell of its sample is looked at.
constexpr i64 MOST_RINGS = DIM == 2 ? 24 : 8;

// The `want` nearest so far, by exact distance, then by index; all lanes make every call together.
struct Best {
    double distance[SLOTS];
    i32 id[SLOTS];
    double worst;
    i32 worst_id;
    int lane, want;

    __device__ __forceinline__ Best(int lane_, int want_) : lane(lane_), want(want_) { clear(); }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) {
            distance[s] = infinity();
            id[s] = 0x7fffffff;
        }
        worst = infinity();
        worst_id = 0x7fffffff;
    }

    __device__ __forceinline__ bool takes(double d, i32 j) const {
        return d < worst || (d == worst && j < worst_id);
    }

    __device__ __forceinline__ void insert(double d, i32 j) {
#pragma unroll
        for (int s = SLOTS - 1; s >= 0; --s) {
            // The entry one position before this one.
            double before = __shfl_up_sync(ALL, distance[s], 1);
            i32 before_id = __shfl_up_sync(ALL, id[s], 1);
            const int previous = s > 0 ? s - 1 : 0;
            const double carried = __shfl_sync(ALL, distance[previous], 31);
            const i32 carried_id = __shfl_sync(ALL, id[previous], 31);
            if (lane == 0) {
                before = s > 0 ? carried : -1.0;
                before_id = carried_id;
            }
            if (distance[s] > d || (distance[s] == d && id[s] > j)) {
                const bool moves = before > d || (before == d && before_id > j);
                distance[s] = moves ? before : d;
                id[s] = moves ? before_id : j;
            }
        }
        const int last = want - 1;
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) {
            const double here = __shfl_sync(ALL, distance[s], last & 31);
            const i32 here_id = __shfl_sync(ALL, id[s], last & 31);
            if (s == last / 32) {
                worst = here;
                worst_id = here_id;
            }
        }
    }

    // OUTPUT: the row in ascending order of its columns.
    __device__ __forceinline__ void write(i32* columns, float* lengths) const {
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) {
            int rank = 0;
#pragma unroll
            for (int r = 0; r < SLOTS; ++r)
                for (int t = 0; t < 32 && r * 32 + t < want; ++t) rank += __shfl_sync(ALL, id[r], t) < id[s];
            if (s * 32 + lane < want) {
                columns[rank] = id[s];
                lengths[rank] = float(distance[s]);
            }
        }
    }
};

struct Nearest {
    const CellList& cells;
    const i32* ids;
    Rings rings;
    Best best;

    __device__ __forceinline__ void scan(Run run) {
        for (i64 from = run.first; from < run.last; from += 32) {
            const i64 j = from + best.lane;
            double d = infinity();
            i32 id = 0x7fffffff;
            // A float32 square above this is farther than the worst; below float32's range nothing is sure.
            const float limit = float(best.worst * best.worst * (1.0 + 4.0 * ROUNDING) + 1e-29);
            if (j < run.last && j != rings.i && cells.square(rings.i, j) <= limit) {
                d = cells.distance(rings.i, j);
                id = ids[j];
            }
            u32 votes = __ballot_sync(ALL, best.takes(d, id));
            while (votes) {
                const int source = __ffs(int(votes)) - 1;
                votes &= votes - 1;
                const double candidate = __shfl_sync(ALL, d, source);
                const i32 name = __shfl_sync(ALL, id, source);
                if (best.takes(candidate, name)) best.insert(candidate, name);
            }
        }
    }

    __device__ __forceinline__ void search(Run everyone) {
        const auto scan_run = [&](Run run) { scan(run); };
        rings.visit(1, true, scan_run);
        for (i64 ring = 1; best.worst >= rings.unseen_from(ring); ++ring) {
            if (rings.unseen_from(ring) == infinity()) return;
            if (ring == MOST_RINGS) {
                best.clear();
                scan(everyone);
                return;
            }
            rings.visit(ring + 1, false, scan_run);
        }
    }
};

}  // namespace metaniche

using namespace metaniche;

// The cells todo (count) of the sorted ones. Row r has indptr[r + 1] - indptr[r] <= 32 * SLOTS neighbours, fewer than
// its sample has cells. OUTPUT: columns and lengths (edges), columns ascending.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
nearest_fill(const float* __restrict__ axes, const i32* __restrict__ ids, const i32* __restrict__ sample,
             const double* __restrict__ low, const double* __restrict__ side, const i64* __restrict__ bins,
             const i64* __restrict__ base, const i64* __restrict__ occupied, const i32* __restrict__ starts, i64 n,
             i64 samples, i64 n_occupied, i64 n_starts, const i64* __restrict__ sample_ptr,
             const i64* __restrict__ todo, i64 count, const i64* __restrict__ indptr, i64 edges,
             i32* __restrict__ columns, float* __restrict__ lengths) {
    const i64 warp = (i64(blockIdx.x) * THREADS + threadIdx.x) / 32;
    if (warp >= count) return;
    const i64 i = todo[warp], row = ids[i], first = indptr[row];
    const int want = int(indptr[row + 1] - first);
    if (want <= 0) return;
    const CellList cells{axes, n, low, side, bins, base, occupied, starts, n_occupied};
    const i64 s = sample[i];
    Nearest nearest{cells, ids, Rings(cells, i, s), Best(int(threadIdx.x) & 31, want)};
    nearest.search({i32(sample_ptr[s]), i32(sample_ptr[s + 1])});
    nearest.best.write(columns + first, lengths + first);
}
