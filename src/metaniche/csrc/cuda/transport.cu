// Half a kernel product of the collective transport for all cells at once: sums over the pairs within a cell, then over
// its edges. Masses are (n, width) float64 with 0 where a cell has none; the plan is never stored. No atomics.
// Specialised by COLUMNS and ENTRIES (see row_team.h), THREADS.
#include "common/transport.h"
#include "cuda/row_team.h"

namespace metaniche {

// What one cell's ligand (receptor) is worth to the team that computes it.
struct Mass {
    Team team;
    i64 at;
    bool inside;

    __device__ __forceinline__ Mass(i64 n, i64 width) : team(COLUMNS) {
        inside = team.row < n && team.column < width;
        at = team.row * width + team.column;
    }
    __device__ __forceinline__ bool writes() const { return inside && team.entry == 0; }

    // The sum over the row's edges of kernel * x[neighbour, column]; all lanes come here, those of no use add nothing.
    __device__ __forceinline__ double gathered(bool used, const i64* indptr, const i32* neighbours,
                                               const double* kernel, const double* x, i64 width, i64 column) const {
        double sum = 0.0;
        const i64 first = used ? indptr[team.row] : 0, last = used ? indptr[team.row + 1] : 0;
#pragma unroll 4
        for (i64 e = first + team.entry; e < last; e += ENTRIES)
            sum += kernel[e] * x[i64(neighbours[e]) * width + column];
        return team.over_entries(sum);
    }
};

}  // namespace metaniche

using namespace metaniche;

// OUTPUT: out (n, to_width), the sum of x (n, from_width) over the columns that pairs join with each.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
transport_spread(const double* __restrict__ x, const i64* __restrict__ pair_ptr, const i32* __restrict__ joined, i64 n,
                 i64 from_width, i64 to_width, i64 pairs, double* __restrict__ out) {
    const i64 at = i64(blockIdx.x) * THREADS + threadIdx.x;
    if (at >= n * to_width) return;
    const i64 row = at / to_width, column = at % to_width, last = pair_ptr[column + 1];
    double sum = 0.0;
    for (i64 k = pair_ptr[column]; k < last; ++k) sum += x[row * from_width + joined[k]];
    out[at] = sum;
}

// `arriving` (n, width): v summed over the pairs. OUTPUT: share = u / mass and u itself, where there is mass.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
transport_senders(const i64* __restrict__ indptr, const i32* __restrict__ neighbours,
                  const double* __restrict__ kernel, const double* __restrict__ arriving,
                  const double* __restrict__ mass, i64 n, i64 edges, i64 width, double slack,
                  double* __restrict__ share, double* __restrict__ u) {
    const Mass m(n, width);
    const double own = m.inside ? mass[m.at] : 0.0;
    const double reached = m.gathered(own > 0.0, indptr, neighbours, kernel, arriving, width, m.team.column);
    if (!m.writes()) return;
    const double g = own > 0.0 ? scaling(reached, slack) : 0.0;
    share[m.at] = g;
    u[m.at] = own * g;
}

// How u answers to a step of log v, with `arriving` = v * step over the pairs. OUTPUT: answer = -(change of u).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
transport_senders_step(const i64* __restrict__ indptr, const i32* __restrict__ neighbours,
                       const double* __restrict__ kernel, const double* __restrict__ arriving,
                       const double* __restrict__ mass, const double* __restrict__ share, i64 n, i64 edges,
                       i64 width, double* __restrict__ answer) {
    const Mass m(n, width);
    const double own = m.inside ? mass[m.at] : 0.0;
    const double reached = m.gathered(own > 0.0, indptr, neighbours, kernel, arriving, width, m.team.column);
    if (!m.writes()) return;
    const double g = share[m.at];
    answer[m.at] = own * g * (g * reached);
}

// `arriving`: u summed over the pairs. OUTPUT: total = what each receiver gets and keeps.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
transport_receivers(const i64* __restrict__ indptr, const i32* __restrict__ neighbours,
                    const double* __restrict__ kernel, const double* __restrict__ arriving,
                    const double* __restrict__ v, i64 n, i64 edges, i64 width, double slack,
                    double* __restrict__ total) {
    const Mass m(n, width);
    const double own = m.inside ? v[m.at] : 0.0;
    const double reached = m.gathered(own > 0.0, indptr, neighbours, kernel, arriving, width, m.team.column);
    if (m.writes()) total[m.at] = own * (reached + slack);
}

// `arriving`: the senders' answers over the pairs. OUTPUT: curved = Hessian of the dual times step.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
transport_receivers_step(const i64* __restrict__ indptr, const i32* __restrict__ neighbours,
                         const double* __restrict__ kernel, const double* __restrict__ arriving,
                         const double* __restrict__ v, const double* __restrict__ total,
                         const double* __restrict__ step, i64 n, i64 edges, i64 width,
                         double* __restrict__ curved) {
    const Mass m(n, width);
    const double own = m.inside ? v[m.at] : 0.0;
    const double reached = m.gathered(own > 0.0, indptr, neighbours, kernel, arriving, width, m.team.column);
    if (m.writes()) curved[m.at] = curvature(total[m.at], step[m.at], own, reached);
}

// OUTPUT: amounts (n, pairs), the sums over each row of the plans u[row] * kernel * v[neighbour].
extern "C" __global__ void __launch_bounds__(THREADS, 1)
transport_amounts(const i64* __restrict__ indptr, const i32* __restrict__ neighbours,
                  const double* __restrict__ kernel, const double* __restrict__ u, const double* __restrict__ v,
                  const i32* __restrict__ own_column, const i32* __restrict__ other_column, i64 n, i64 edges,
                  i64 own_width, i64 other_width, i64 pairs, double* __restrict__ amounts) {
    const Mass m(n, pairs);
    const double own = m.inside ? u[m.team.row * own_width + own_column[m.team.column]] : 0.0;
    const i64 other = m.inside ? other_column[m.team.column] : 0;
    const double reached = m.gathered(own > 0.0, indptr, neighbours, kernel, v, other_width, other);
    if (m.writes()) amounts[m.at] = own * reached;
}
