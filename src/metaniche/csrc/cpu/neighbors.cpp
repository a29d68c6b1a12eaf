// Neighbour search on a cell list. Candidates are tested in float32; whoever is near a bound is decided in float64, so
// that the edges are exactly those of the rule in ops/neighbors.py.
#include <omp.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

#include "common/hash.h"
#include "cpu/arrays.h"
#include "cpu/cell_list.h"

namespace metaniche {
namespace {

// Three float32 roundings and the cast of the bound stay below this relative error of a squared distance.
constexpr double ROUNDING = 1e-6;

template <class T>
T* allocate(i64 n) {
    void* p = std::malloc(std::max<size_t>(size_t(n) * sizeof(T), 1));
    if (!p) throw std::bad_alloc();
    return static_cast<T*>(p);
}

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> owned(T* data, i64 n) {
    nb::capsule owner(data, [](void* p) noexcept { std::free(p); });
    return nb::ndarray<nb::numpy, T, nb::ndim<1>>(data, {size_t(n)}, owner);
}

// A squared bound as float32: below `surely` a float32 square is within it, above `maybe` it is not.
struct Bound {
    float surely, maybe;
    explicit Bound(double distance) {
        const double square = distance * distance;
        const bool tiny = square < 1e-30;  // float32 squares underflow: nothing is sure
        surely = tiny ? -1.0f : float(square * (1 - ROUNDING));
        maybe = tiny ? 1e-29f : float(std::min(square * (1 + ROUNDING), double(std::numeric_limits<float>::max())));
        if (square > 1e37) surely = 0.0f, maybe = std::numeric_limits<float>::infinity();
    }
};

template <int Dim>
struct Cells {
    const float* axis[Dim];
    explicit Cells(const CellList<Dim>& list) {
        for (int d = 0; d < Dim; ++d) axis[d] = list.axis(d);
    }
    float square(i64 i, i64 j) const {
        float sum = 0;
        for (int d = 0; d < Dim; ++d) {
            const float difference = axis[d][j] - axis[d][i];
            sum += difference * difference;
        }
        return sum;
    }
    double distance(i64 i, i64 j) const {
        double sum = 0;
        for (int d = 0; d < Dim; ++d) {
            const double difference = double(axis[d][j]) - double(axis[d][i]);
            sum += difference * difference;
        }
        return std::sqrt(sum);
    }
};

// The rows of bins within one bin of `at`, three bins each: everything within one bin side.
template <int Dim>
int runs_around(const CellList<Dim>& list, const i64 (&at)[Dim], Run* runs) {
    int n = 0;
    const i64 depth = Dim == 3 ? 1 : 0;
    for (i64 dz = -depth; dz <= depth; ++dz)
        for (i64 dy = -1; dy <= 1; ++dy) {
            i64 row[Dim];
            row[0] = at[0];
            row[1] = at[1] + dy;
            if constexpr (Dim == 3) row[2] = at[2] + dz;
            const Run run = list.row(row, at[0] - 1, at[0] + 1);
            if (run.first < run.last) runs[n++] = run;
        }
    return n;
}

template <int Dim>
class RadiusSearch {
public:
    RadiusSearch(double radius, double inner, i64 most, u64 seed)
        : radius_(radius), inner_(inner), most_(most), seed_(splitmix64(seed)), outer_bound_(radius), inner_bound_(inner) {}

    // Calls visit(cell, runs, n_runs) for every sorted cell, in parallel over bins.
    template <class Visit>
    void for_each(const CellList<Dim>& list, Visit&& visit) const {
        const i64 bins = list.occupied();
#pragma omp parallel
        {
            std::vector<u64> scratch;
#pragma omp for schedule(dynamic, 64)
            for (i64 b = 0; b < bins; ++b) {
                i64 at[Dim];
                list.place(b, at);
                Run runs[9];
                const int n = runs_around(list, at, runs);
                const Run own = list.cells(b);
                for (i64 i = own.first; i < own.last; ++i) visit(i, runs, n, scratch);
            }
        }
    }

    i64 count(const Cells<Dim>& cells, i64 i, const Run* runs, int n) const {
        i64 sure = 0, maybe = 0;
        const bool ring = inner_ > 0;
        for (int r = 0; r < n; ++r) {
            i32 sure_here = 0, maybe_here = 0;
            if (ring) {
#pragma omp simd reduction(+ : sure_here, maybe_here)
                for (i32 j = runs[r].first; j < runs[r].last; ++j) {
                    const float s = cells.square(i, j);
                    sure_here += (s <= outer_bound_.surely) & (s > inner_bound_.maybe);
                    maybe_here += (s <= outer_bound_.maybe) & (s > inner_bound_.surely);
                }
            } else {
#pragma omp simd reduction(+ : sure_here, maybe_here)
                for (i32 j = runs[r].first; j < runs[r].last; ++j) {
                    const float s = cells.square(i, j);
                    sure_here += s <= outer_bound_.surely;
                    maybe_here += s <= outer_bound_.maybe;
                }
            }
            sure += sure_here;
            maybe += maybe_here;
        }
        if (sure == maybe) return ring ? sure : sure - 1;
        i64 exact = 0;
        visit_neighbors(cells, i, runs, n, [&](i64, double) { ++exact; });
        return exact;
    }

    // Columns ascending, `start` added to each.
    void fill(const CellList<Dim>& list, const Cells<Dim>& cells, i64 i, const Run* runs, int n, i64 start, i64 kept,
              std::vector<u64>& row, i32* indices, float* distance) const {
        row.clear();
        const i32* ids = list.ids();
        visit_neighbors(cells, i, runs, n, [&](i64 j, double d) {
            const float rounded = float(d);
            u32 bits;
            std::memcpy(&bits, &rounded, 4);
            row.push_back(u64(u32(ids[j])) << 32 | bits);
        });
        if (i64(row.size()) > kept) thin(u64(ids[i]), kept, row);
        std::sort(row.begin(), row.end());
        for (i64 e = 0; e < kept; ++e) {
            indices[e] = i32(start + i64(row[e] >> 32));
            const u32 bits = u32(row[e]);
            std::memcpy(distance + e, &bits, 4);
        }
    }

    i64 most() const { return most_; }

private:
    template <class Visit>
    void visit_neighbors(const Cells<Dim>& cells, i64 i, const Run* runs, int n, Visit&& visit) const {
        for (int r = 0; r < n; ++r)
            for (i64 j = runs[r].first; j < runs[r].last; ++j) {
                const float s = cells.square(i, j);
                if (s > outer_bound_.maybe || (inner_ > 0 && s <= inner_bound_.surely) || j == i) continue;
                const double d = cells.distance(i, j);
                if (d <= radius_ && (inner_ <= 0 || d > inner_)) visit(j, d);
            }
    }

    // Keeps the `kept` entries of smallest hash.
    void thin(u64 receiver, i64 kept, std::vector<u64>& row) const {
        thread_local std::vector<std::pair<u64, u64>> hashed;
        const u64 key = splitmix64(seed_ ^ receiver);
        hashed.resize(row.size());
        for (size_t e = 0; e < row.size(); ++e) hashed[e] = {splitmix64(key ^ (row[e] >> 32)), row[e]};
        std::nth_element(hashed.begin(), hashed.begin() + kept, hashed.end());
        row.resize(kept);
        for (i64 e = 0; e < kept; ++e) row[e] = hashed[e].second;
    }

    double radius_, inner_;
    i64 most_;
    u64 seed_;
    Bound outer_bound_, inner_bound_;
};

template <int Dim>
nb::tuple search_radius(In<float, 2> pos, In<i64, 1> ptr, const RadiusSearch<Dim>& search, double radius) {
    const i64 n = i64(pos.shape(0)), samples = i64(ptr.shape(0)) - 1;
    std::unique_ptr<i64[]> degree(new i64[n]);
    i64* indptr = allocate<i64>(n + 1);
    i32* indices = nullptr;
    float* distance = nullptr;
    {
        nb::gil_scoped_release release;
        std::vector<CellList<Dim>> lists;
        for (i64 s = 0; s < samples; ++s) {
            const i64 first = ptr.data()[s];
            // A hair wider than the radius: rounding of a bin number must not hide a neighbour two bins away.
            lists.emplace_back(pos.data() + first * Dim, ptr.data()[s + 1] - first, radius * (1 + ROUNDING));
            const Cells<Dim> cells(lists.back());
            const i32* ids = lists.back().ids();
            search.for_each(lists.back(), [&](i64 i, const Run* runs, int m, std::vector<u64>&) {
                const i64 found = search.count(cells, i, runs, m);
                degree[first + ids[i]] = search.most() ? std::min(found, search.most()) : found;
            });
        }
        indptr[0] = 0;
        std::inclusive_scan(degree.get(), degree.get() + n, indptr + 1);
        indices = allocate<i32>(indptr[n]);
        distance = allocate<float>(indptr[n]);
        for (i64 s = 0; s < samples; ++s) {
            const i64 first = ptr.data()[s];
            const Cells<Dim> cells(lists[s]);
            const i32* ids = lists[s].ids();
            search.for_each(lists[s], [&](i64 i, const Run* runs, int m, std::vector<u64>& row) {
                const i64 at = indptr[first + ids[i]];
                search.fill(lists[s], cells, i, runs, m, first, indptr[first + ids[i] + 1] - at, row, indices + at, distance + at);
            });
        }
    }
    return nb::make_tuple(owned(indptr, n + 1), owned(indices, indptr[n]), owned(distance, indptr[n]));
}

nb::tuple radius_neighbors(In<float, 2> pos, In<i64, 1> ptr, double radius, double inner, i64 most, u64 seed) {
    if (pos.shape(1) == 2) return search_radius<2>(pos, ptr, RadiusSearch<2>(radius, inner, most, seed), radius);
    return search_radius<3>(pos, ptr, RadiusSearch<3>(radius, inner, most, seed), radius);
}

// Side of bins that hold about `wanted` cells each; axes thinner than a bin count as one bin.
template <int Dim>
double side_for(const float* pos, i64 n, double wanted) {
    double extent[Dim];
    for (int d = 0; d < Dim; ++d) {
        float least = pos[d], most = pos[d];
        for (i64 i = 1; i < n; ++i) {
            least = std::min(least, pos[i * Dim + d]);
            most = std::max(most, pos[i * Dim + d]);
        }
        extent[d] = double(most) - double(least);
    }
    std::sort(extent, extent + Dim);
    for (int thin = 0; thin < Dim; ++thin) {
        double volume = wanted / double(n);
        for (int d = thin; d < Dim; ++d) volume *= extent[d];
        const double side = std::pow(volume, 1.0 / (Dim - thin));
        if (side <= extent[thin]) return side;
    }
    return extent[Dim - 1];
}

template <int Dim>
CellList<Dim> list_for_nearest(const float* pos, i64 n, i64 k) {
    const double wanted = std::max(2.0, (Dim == 2 ? 0.2 : 0.15) * double(k));
    CellList<Dim> list(pos, n, side_for<Dim>(pos, n, wanted));
    // Where cells crowd in a part of the box, bins that fit the crowd.
    for (int pass = 0; pass < 3; ++pass) {
        const double held = double(n) / double(std::max<i64>(list.occupied(), 1));
        if (held < 4 * wanted) break;
        list = CellList<Dim>(pos, n, list.side() * std::pow(wanted / held, 1.0 / Dim));
    }
    return list;
}

// The search of one cell: rings of bins around its own until no unseen cell can be among the k nearest.
template <int Dim>
class NearestSearch {
public:
    // Past this a cell is left to a search that does not mind uneven density.
    static constexpr i64 MOST_CANDIDATES = 8192, MOST_RINGS = 24;

    NearestSearch(const CellList<Dim>& list, i64 k) : list_(list), cells_(list), k_(k), best_(k) {}

    // False: given up. Otherwise the k nearest in `indices` (ascending, sample-local) and their distances.
    bool find(i64 i, const i64 (&at)[Dim], i32* indices, float* distance) {
        std::fill(best_.begin(), best_.end(), std::numeric_limits<float>::infinity());
        seen_.clear();
        tested_ = 0;
        for (i64 ring = 0; ring <= MOST_RINGS; ++ring) {
            if (!scan_ring(i, at, ring)) return false;
            const double reach = unseen_from(i, at, ring);
            if (std::sqrt(double(best_[k_ - 1]) * (1 + ROUNDING)) < reach) return take(i, indices, distance);
        }
        return false;
    }

private:
    bool scan_ring(i64 i, const i64 (&at)[Dim], i64 ring) {
        i64 row[Dim];
        row[0] = at[0];
        const i64 depth = Dim == 3 ? ring : 0;
        for (i64 dz = -depth; dz <= depth; ++dz)
            for (i64 dy = -ring; dy <= ring; ++dy) {
                row[1] = at[1] + dy;
                if constexpr (Dim == 3) row[2] = at[2] + dz;
                const bool face = std::max(std::abs(dy), std::abs(dz)) == ring;
                if (face) {
                    if (!scan(i, list_.row(row, at[0] - ring, at[0] + ring))) return false;
                } else if (!scan(i, list_.row(row, at[0] - ring, at[0] - ring)) ||
                           !scan(i, list_.row(row, at[0] + ring, at[0] + ring))) {
                    return false;
                }
            }
        return true;
    }

    bool scan(i64 i, Run run) {
        tested_ += run.last - run.first;
        if (tested_ > MOST_CANDIDATES) return false;
        for (i64 j = run.first; j < run.last; ++j) {
            const float s = cells_.square(i, j);
            if (!(s <= best_[k_ - 1] * float(1 + 2 * ROUNDING)) || j == i) continue;
            seen_.push_back({s, i32(j)});
            i64 t = k_ - 1;
            if (s >= best_[t]) continue;
            for (; t > 0 && best_[t - 1] > s; --t) best_[t] = best_[t - 1];
            best_[t] = s;
        }
        return true;
    }

    // A lower bound of the distance to the cells outside the rings seen; infinite where there are none.
    double unseen_from(i64 i, const i64 (&at)[Dim], i64 ring) const {
        double least = std::numeric_limits<double>::infinity();
        for (int d = 0; d < Dim; ++d) {
            const double x = cells_.axis[d][i];
            if (at[d] - ring > 0) least = std::min(least, x - list_.wall(d, at[d] - ring));
            if (at[d] + ring + 1 < list_.bins(d)) least = std::min(least, list_.wall(d, at[d] + ring + 1) - x);
        }
        return least - ROUNDING * list_.side();
    }

    // Of the candidates, the k nearest by exact distance, then by index.
    bool take(i64 i, i32* indices, float* distance) {
        const float limit = best_[k_ - 1] * float(1 + 2 * ROUNDING);
        exact_.clear();
        for (const auto& [square, j] : seen_)
            if (square <= limit) exact_.push_back({cells_.distance(i, j), list_.ids()[j]});
        std::nth_element(exact_.begin(), exact_.begin() + (k_ - 1), exact_.end());
        std::sort(exact_.begin(), exact_.begin() + k_, [](const auto& a, const auto& b) { return a.second < b.second; });
        for (i64 t = 0; t < k_; ++t) {
            indices[t] = exact_[t].second;
            distance[t] = float(exact_[t].first);
        }
        return true;
    }

    const CellList<Dim>& list_;
    Cells<Dim> cells_;
    i64 k_, tested_ = 0;
    std::vector<float> best_;
    std::vector<std::pair<float, i32>> seen_;
    std::vector<std::pair<double, i32>> exact_;
};

template <int Dim>
void search_nearest(const float* pos, i64 n, i64 k, i32* indices, float* distance, unsigned char* given_up) {
    const CellList<Dim> list = list_for_nearest<Dim>(pos, n, k);
    const i64 bins = list.occupied();
#pragma omp parallel
    {
        NearestSearch<Dim> search(list, k);
#pragma omp for schedule(dynamic, 64)
        for (i64 b = 0; b < bins; ++b) {
            i64 at[Dim];
            list.place(b, at);
            const Run own = list.cells(b);
            for (i64 i = own.first; i < own.last; ++i) {
                const i64 row = list.ids()[i];
                given_up[row] = !search.find(i, at, indices + row * k, distance + row * k);
            }
        }
    }
}

// One sample of n > k cells: indices and distance (n, k), given_up (n,) 1 where the row was left unfilled.
void knn_neighbors(In<float, 2> pos, i64 k, Out<i32, 2> indices, Out<float, 2> distance, Out<unsigned char, 1> given_up) {
    const i64 n = i64(pos.shape(0));
    nb::gil_scoped_release release;
    if (pos.shape(1) == 2) search_nearest<2>(pos.data(), n, k, indices.data(), distance.data(), given_up.data());
    else search_nearest<3>(pos.data(), n, k, indices.data(), distance.data(), given_up.data());
}

}  // namespace

void add_neighbors(nb::module_& m) {
    m.def("radius_neighbors", &radius_neighbors, nb::arg("pos"), nb::arg("sample_ptr"), nb::arg("radius"), nb::arg("inner"),
          nb::arg("most"), nb::arg("seed"));
    m.def("knn_neighbors", &knn_neighbors, nb::arg("pos"), nb::arg("k"), nb::arg("indices"), nb::arg("distance"),
          nb::arg("given_up"));
}

}  // namespace metaniche
