// Radius graph on a cell list. Candidates are tested in float32; whoever is near a bound is decided in float64, so
// that the edges are exactly those of the rule in ops/neighbors.py. LANES lanes work on a row.
// Specialised by DIM, DENSE (see cell_list.h), LANES (power of two <= 32), THREADS.
#include "common/hash.h"
#include "cuda/cell_list.h"

namespace metaniche {

// Neighbours of a row that are sorted in shared memory; longer rows are sorted where they are written.
constexpr i32 STAGED = 32;

// The lanes of a row. All lanes of a warp take the same turns, those whose row has nothing left too: so they always
// meet. Lanes beyond the last row do the same as its own and write nothing.
struct Team {
    i64 row;
    int at;
    u32 mask, below;  // the lanes of the row, and those of them before this one
    bool writes;

    __device__ __forceinline__ explicit Team(i64 n) {
        const int lane = int(threadIdx.x) & 31;
        const i64 wanted = (i64(blockIdx.x) * THREADS + threadIdx.x) / LANES;
        row = min(wanted, n - 1);
        writes = row == wanted;
        at = lane % LANES;
        mask = LANES == 32 ? ALL : ((1u << (LANES % 32)) - 1u) << (lane - at);
        below = mask & ((1u << lane) - 1u);
    }
    // The most of what the rows of the warp have.
    __device__ __forceinline__ i32 most(i64 count) const { return i32(__reduce_max_sync(ALL, u32(count))); }
    // Those of its lanes that say yes.
    __device__ __forceinline__ u32 votes(bool yes) const { return __ballot_sync(ALL, yes) & mask; }
};

// inner < d <= outer. A float32 square up to `surely` is within a bound, above `maybe` it is not.
struct Ring {
    double outer, inner;
    float outer_surely, outer_maybe, inner_surely, inner_maybe;

    __device__ __forceinline__ bool holds(const CellList& cells, i64 i, i64 j) const {
        const float s = cells.square(i, j);
        if (!(s <= outer_maybe) || j == i || (inner > 0.0 && s <= inner_surely)) return false;
        if (s <= outer_surely && (inner <= 0.0 || s > inner_maybe)) return true;
        const double d = cells.distance(i, j);
        return d <= outer && (inner <= 0.0 || d > inner);
    }
};

// Calls visit(j, is_neighbour) for the candidates of sorted cell i; all lanes of the warp make every call.
template <class Visit>
__device__ __forceinline__ void visit_around(const CellList& cells, const Ring& ring, i64 sample, i64 i,
                                             const Team& team, Visit&& visit) {
    const i64 x = cells.bin_along(0, sample, cells.x(0, i)), y = cells.bin_along(1, sample, cells.x(1, i));
#if DIM == 3
    const i64 z = cells.bin_along(2, sample, cells.x(2, i)), depth = 1;
#else
    const i64 z = 0, depth = 0;
#endif
    for (i64 dz = -depth; dz <= depth; ++dz)
        for (i64 dy = -1; dy <= 1; ++dy) {
            const Run run = cells.row(sample, y + dy, z + dz, x - 1, x + 1);
            const i32 most = team.most(run.last - run.first);
            for (i32 step = 0; step < most; step += LANES) {
                const i32 mine = run.first + step + team.at;
                visit(mine, mine < run.last && ring.holds(cells, i, mine));
            }
        }
}

template <class T>
__device__ __forceinline__ void swap(T& a, T& b) {
    const T held = a;
    a = b;
    b = held;
}

// Sorts the n entries of one row by a bitonic network for any length, in which the entries beyond the end would be larger
// than all others and stay where they are. swap_if_less(a, b) swaps entries a < b where b is the smaller. `most`: of the
// warp's rows.
template <class Swap>
__device__ __forceinline__ void sort_row(i32 n, i32 most, const Team& team, Swap&& swap_if_less) {
    const auto order = [&](i32 a, i32 b) {
        if (b < n) swap_if_less(a, b);
    };
    // The lower entry of the t-th pair of entries that lie `apart` (a power of two).
    const auto lower = [](i32 t, i32 apart) { return 2 * t - (t & (apart - 1)); };
    for (i32 half = 1; half < most; half *= 2) {
        for (i32 t = team.at; lower(t, half) < n; t += LANES) order(lower(t, half), lower(t, half) ^ (2 * half - 1));
        __syncwarp();
        for (i32 apart = half / 2; apart > 0; apart /= 2) {
            for (i32 t = team.at; lower(t, apart) < n; t += LANES) order(lower(t, apart), lower(t, apart) + apart);
            __syncwarp();
        }
    }
}

}  // namespace metaniche

using namespace metaniche;

// The bin of every cell. OUTPUT: keys (n), ascending with the sample.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
bin_keys(const float* __restrict__ pos, const i32* __restrict__ sample, const double* __restrict__ low,
         const double* __restrict__ side, const i64* __restrict__ bins, const i64* __restrict__ base, i64 n,
         i64 samples, i64* __restrict__ keys) {
    const i64 i = i64(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= n) return;
    const i64 s = sample[i];
    const CellList cells{nullptr, n, low, side, bins, base, nullptr, nullptr, 0};
    i64 key = 0;
#pragma unroll
    for (int d = DIM - 1; d >= 0; --d) key = key * bins[s * DIM + d] + cells.bin_along(d, s, pos[i * DIM + d]);
    keys[i] = base[s] + key;
}

// OUTPUT: degree (n) of the cells in their own order; `ids` (n) names the sorted cells.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
radius_count(const float* __restrict__ axes, const i32* __restrict__ ids, const i32* __restrict__ sample,
             const double* __restrict__ low, const double* __restrict__ side, const i64* __restrict__ bins,
             const i64* __restrict__ base, const i64* __restrict__ occupied, const i32* __restrict__ starts, i64 n,
             i64 samples, i64 n_occupied, i64 n_starts, double outer, double inner, float outer_surely,
             float outer_maybe, float inner_surely, float inner_maybe, i64* __restrict__ degree) {
    const Team team(n);
    const i64 i = team.row;
    const CellList cells{axes, n, low, side, bins, base, occupied, starts, n_occupied};
    const Ring ring{outer, inner, outer_surely, outer_maybe, inner_surely, inner_maybe};
    i32 found = 0;
    visit_around(cells, ring, sample[i], i, team, [&](i64, bool near) { found += near; });
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) found += __shfl_xor_sync(ALL, found, offset);
    if (team.writes && team.at == 0) degree[ids[i]] = found;
}

// OUTPUT: columns and lengths (edges) at the rows' places in `indptr`, columns ascending.
extern "C" __global__ void __launch_bounds__(THREADS, 3)
radius_fill(const float* __restrict__ axes, const i32* __restrict__ ids, const i32* __restrict__ sample,
            const double* __restrict__ low, const double* __restrict__ side, const i64* __restrict__ bins,
            const i64* __restrict__ base, const i64* __restrict__ occupied, const i32* __restrict__ starts, i64 n,
            i64 samples, i64 n_occupied, i64 n_starts, double outer, double inner, float outer_surely,
            float outer_maybe, float inner_surely, float inner_maybe, const i64* __restrict__ indptr, i64 edges,
            i32* columns, float* lengths) {  // not restrict: lanes read what other lanes wrote
    const Team team(n);
    const i64 i = team.row;
    const CellList cells{axes, n, low, side, bins, base, occupied, starts, n_occupied};
    const Ring ring{outer, inner, outer_surely, outer_maybe, inner_surely, inner_maybe};
    const i64 first = indptr[ids[i]];
    const i32 most = team.most(indptr[ids[i] + 1] - first);
    static_assert(THREADS / LANES * STAGED * sizeof(u64) <= 8192, "more shared memory than ops/cuda/neighbors.py says");
    __shared__ u64 staged[THREADS / LANES * STAGED];  // the neighbour's number above its place in the cell list
    u64* const entry = staged + threadIdx.x / LANES * STAGED;
    const bool stages = most <= STAGED;
    i32 n_found = 0;
    visit_around(cells, ring, sample[i], i, team, [&](i64 j, bool near) {
        const u32 votes = team.votes(near);
        if (near && team.writes) {
            const i32 place = n_found + __popc(votes & team.below);
            if (stages) {
                entry[place] = u64(ids[j]) << 32 | u64(j);
            } else {
                columns[first + place] = ids[j];
                lengths[first + place] = float(cells.distance(i, j));
            }
        }
        n_found += __popc(votes);
    });
    __syncwarp();
    if (!team.writes) n_found = 0;
    if (stages) {
        sort_row(n_found, most, team, [&](i32 a, i32 b) {
            if (entry[b] < entry[a]) swap(entry[a], entry[b]);
        });
        for (i32 t = team.at; t < n_found; t += LANES) {
            columns[first + t] = i32(entry[t] >> 32);
            lengths[first + t] = float(cells.distance(i, i64(entry[t] & 0xffffffffu)));
        }
    } else {
        sort_row(n_found, most, team, [&](i32 a, i32 b) {
            if (columns[first + b] >= columns[first + a]) return;
            swap(columns[first + a], columns[first + b]);
            swap(lengths[first + a], lengths[first + b]);
        });
    }
}

// Of rows longer than `most` the entries of smallest hash(seed, i, j), counted within the sample `start` says.
// OUTPUT: kept_columns and kept_lengths (kept) at the rows' places in `kept_indptr`.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
thin_rows(const i64* __restrict__ indptr, const i32* __restrict__ columns, const float* __restrict__ lengths,
          const i32* __restrict__ sample, const i64* __restrict__ sample_ptr, const i64* __restrict__ kept_indptr,
          i64 n, i64 samples, i64 edges, i64 kept, i64 most, u64 seed, i32* __restrict__ kept_columns,
          float* __restrict__ kept_lengths) {
    const Team team(n);
    const i64 first = indptr[team.row], degree = indptr[team.row + 1] - first;
    const i64 start = sample_ptr[sample[team.row]];
    const u64 key = splitmix64(splitmix64(seed) ^ u64(team.row - start));
    const i32 longest = team.most(degree);
    i64 at = kept_indptr[team.row];
    for (i32 e = 0; e < longest; e += LANES) {
        const i64 mine = e + team.at;
        bool keep = mine < degree;
        if (longest > most) {
            // splitmix64 is a bijection: no two senders of a row share a hash.
            const auto hash_of = [&](i64 f) {
                return f < degree ? splitmix64(key ^ u64(columns[first + f] - start)) : ~0ull;
            };
            const u64 hash = hash_of(mine);
            i64 smaller = 0;
            for (i32 f = 0; f < longest; f += LANES) {
                const u64 others = hash_of(f + team.at);
#pragma unroll
                for (int lane = 0; lane < LANES; ++lane) smaller += __shfl_sync(ALL, others, lane, LANES) < hash;
            }
            keep = keep && smaller < most;
        }
        const u32 votes = team.votes(keep);
        if (keep && team.writes) {
            const i64 place = at + __popc(votes & team.below);
            kept_columns[place] = columns[first + mine];
            kept_lengths[place] = lengths[first + mine];
        }
        at += __popc(votes);
    }
}
