// Neighbour search on a cell list. Candidates are tested in float32; whoever is near a bound is decided in float64, so
// that the edges are exactly those of the rule in ops/neighbors.py.
#include <omp.h>
#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <vector>

#include "common/hash.h"
#include "cpu/arrays.h"
#include "cpu/candidates.h"
#include "cpu/cell_list.h"
#include "cpu/guarded.h"

namespace metaniche {
namespace {

// Large arrays are written in scattered order: large pages, where the system has them, save most of the misses.
template <class T>
T* allocate(i64 n) {
    constexpr size_t PAGE = size_t(2) << 20;
    const size_t bytes = std::max<size_t>(size_t(n) * sizeof(T), 1);
    void* p = bytes < 2 * PAGE ? std::malloc(bytes) : std::aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    if (!p) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (bytes >= 2 * PAGE) madvise(p, bytes, MADV_HUGEPAGE);
#endif
    return static_cast<T*>(p);
}

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> owned(T* data, i64 n) {
    nb::capsule owner(data, [](void* p) noexcept { std::free(p); });
    return nb::ndarray<nb::numpy, T, nb::ndim<1>>(data, {size_t(n)}, owner);
}

struct RadiusRule {
    double radius;
    double inner;  // of a ring; below 0 for a disc, in which co-located cells are neighbours too
    i64 most;  // neighbours kept per row; 0: all
    u64 seed;
};

// The search of one cell, with memory of its own: one per thread.
template <int Dim>
class RadiusSearch {
public:
    RadiusSearch(const CellList<Dim>& list, const RadiusRule& rule)
        : list_(list), cells_(list), rule_(rule), seed_(splitmix64(rule.seed)), outer_(rule.radius), inner_(rule.inner) {}

    // The cells that follow are those of occupied bin b.
    void enter(i64 b) {
        i64 at[Dim];
        list_.place(b, at);
        n_runs_ = runs_around(list_, at, runs_);
    }

    // How many neighbours sorted cell i has within reach.
    i64 count(i64 i) {
        look_around(i);
        const i64 sure = candidates_.count(inner_.maybe, outer_.surely);
        const bool itself = rule_.inner < 0;  // is among them
        if (sure == candidates_.count(inner_.surely, outer_.maybe)) return sure - itself;
        measure(i);
        return row_.size();
    }

    // Writes them in order of their indices, counted from `start`.
    void write(i64 i, i64 start, i32* indices, float* distance) {
        look_around(i);
        measure(i);
        if (rule_.most && row_.size() > rule_.most) thin(i);
        row_.write(start, indices, distance);
    }

private:
    void look_around(i64 i) {
        candidates_.clear();
        for (int r = 0; r < n_runs_; ++r) candidates_.add(i, runs_[r]);
    }

    void measure(i64 i) {
        candidates_.keep(inner_.surely, outer_.maybe, row_);
        row_.measure(i, rule_.inner, rule_.radius);
    }

    void thin(i64 i) {
        const u64 receiver = splitmix64(seed_ ^ u64(list_.ids()[i]));
        // Hashes are uniform: of so large a share hardly ever fewer than `most` are smaller.
        const double most = double(rule_.most), share = (most + 4 * std::sqrt(most) + 8) / double(row_.size());
        const u64 guess = share < 1 ? u64(std::ldexp(share, 64)) : std::numeric_limits<u64>::max();
        row_.keep_smallest(rule_.most, guess, [&](i32 sender, double) { return splitmix64(receiver ^ u64(sender)); });
    }

    const CellList<Dim>& list_;
    Cells<Dim> cells_;
    RadiusRule rule_;
    u64 seed_;
    Bound outer_, inner_;
    Run runs_[9];
    int n_runs_ = 0;
    Candidates<Dim> candidates_{cells_};
    Row<Dim> row_{cells_};
};

// Calls visit(search, i) for every sorted cell i, bin by bin.
template <int Dim, class Visit>
void for_each_cell(const CellList<Dim>& list, const RadiusRule& rule, Visit&& visit) {
    Guarded guarded;
#pragma omp parallel
    {
        std::optional<RadiusSearch<Dim>> search;
        guarded([&] { search.emplace(list, rule); });
#pragma omp for schedule(dynamic, 256)
        for (i64 b = 0; b < list.occupied(); ++b)
            guarded([&] {
                search->enter(b);
                const Run own = list.cells(b);
                for (i64 i = own.first; i < own.last; ++i) visit(*search, i);
            });
    }
    guarded.rethrow();
}

// Cells are searched bin by bin and their rows lie scattered: where a row goes is fetched while others are worked on.
constexpr i64 AHEAD = 16;

void fetch_row(i64 first, i64 last, const i32* indices, const float* distance) {
    constexpr i64 LINE = 64 / sizeof(i32);
    for (i64 e = first; e < last + LINE; e += LINE) {
        __builtin_prefetch(indices + std::min(e, last), 1);
        __builtin_prefetch(distance + std::min(e, last), 1);
    }
}

template <int Dim>
void count_neighbors(const CellList<Dim>& list, const RadiusRule& rule, i64* degree) {
    for_each_cell(list, rule, [&](auto& search, i64 i) { degree[list.ids()[i]] = search.count(i); });
}

template <int Dim>
void write_neighbors(const CellList<Dim>& list, const RadiusRule& rule, const i64* indptr, i64 start, i32* indices,
                     float* distance) {
    const i32* ids = list.ids();
    for_each_cell(list, rule, [&](auto& search, i64 i) {
        if (i + 2 * AHEAD < list.size()) __builtin_prefetch(indptr + ids[i + 2 * AHEAD]);
        if (i + AHEAD < list.size()) fetch_row(indptr[ids[i + AHEAD]], indptr[ids[i + AHEAD] + 1], indices, distance);
        search.write(i, start, indices + indptr[ids[i]], distance + indptr[ids[i]]);
    });
}

template <int Dim>
nb::tuple search_radius(In<float, 2> pos, In<i64, 1> ptr, const RadiusRule& rule) {
    const i64 n = i64(pos.shape(0)), samples = i64(ptr.shape(0)) - 1;
    i64* indptr = allocate<i64>(n + 1);
    i64* reachable = allocate<i64>(n);
    i32* indices = nullptr;
    float* distance = nullptr;
    {
        nb::gil_scoped_release release;
        std::vector<CellList<Dim>> lists;
        lists.reserve(samples);
        indptr[0] = 0;
        for (i64 s = 0; s < samples; ++s) {
            const i64 first = ptr.data()[s], last = ptr.data()[s + 1];
            // A hair wider than the radius: rounding of a bin number must not hide a neighbour two bins away.
            lists.emplace_back(pos.data() + first * Dim, last - first, rule.radius * (1 + ROUNDING));
            count_neighbors(lists[s], rule, reachable + first);
        }
        const i64 most = rule.most ? rule.most : std::numeric_limits<i64>::max();
        std::transform(reachable, reachable + n, indptr + 1, [&](i64 degree) { return std::min(degree, most); });
        std::inclusive_scan(indptr, indptr + n + 1, indptr);
        indices = allocate<i32>(indptr[n]);
        distance = allocate<float>(indptr[n]);
        for (i64 s = 0; s < samples; ++s)
            write_neighbors(lists[s], rule, indptr + ptr.data()[s], ptr.data()[s], indices, distance);
    }
    return nb::make_tuple(owned(indptr, n + 1), owned(indices, indptr[n]), owned(distance, indptr[n]),
                          owned(reachable, n));
}

nb::tuple radius_neighbors(In<float, 2> pos, In<i64, 1> ptr, double radius, double inner, i64 most, u64 seed) {
    const RadiusRule rule{radius, inner > 0 ? inner : -1.0, most, seed};
    return pos.shape(1) == 2 ? search_radius<2>(pos, ptr, rule) : search_radius<3>(pos, ptr, rule);
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
    const double wanted = std::max(2.0, 0.15 * double(k));
    CellList<Dim> list(pos, n, side_for<Dim>(pos, n, wanted));
    // Where cells crowd in a part of the box, bins that fit the crowd.
    for (int pass = 0; pass < 3; ++pass) {
        const double held = double(n) / double(std::max<i64>(list.occupied(), 1));
        if (held < 4 * wanted) break;
        list = CellList<Dim>(pos, n, list.side() * std::pow(wanted / held, 1.0 / Dim));
    }
    return list;
}

// The search of one cell: a square of bins around its own, and rings around that until no unseen cell can be among the k
// nearest.
template <int Dim>
class NearestSearch {
public:
    // Past this a cell is left to a search that does not mind uneven density.
    static constexpr i64 MOST_CANDIDATES = 8192, MOST_RINGS = 24;
    static constexpr i64 FIRST_RING = Dim == 2 ? 2 : 1;  // by rows; in 2-D the square is enough for nearly every cell
    static constexpr double TINY = 1e-14;                // of a length: squares of less underflow in float32

    NearestSearch(const CellList<Dim>& list, i64 k) : list_(list), cells_(list), k_(k) {}

    // False: given up. Otherwise the k nearest in `indices` (ascending, sample-local) and their distances.
    bool find(i64 i, const i64 (&at)[Dim], i32* indices, float* distance) {
        candidates_.clear();
        for (i64 ring = FIRST_RING; ring <= MOST_RINGS; ++ring) {
            if (!add_ring(i, at, ring)) return false;
            if (candidates_.size() <= k_) continue;
            const double reach = unseen_from(i, at, ring);
            if (reach <= TINY) continue;
            const float seen = float(reach * reach * (1 - 4 * ROUNDING));
            if (const i64 held = candidates_.count(-1.0f, seen); held > k_) {
                take(i, limit_of(seen, held), indices, distance);
                return true;
            }
        }
        return false;
    }

private:
    bool add_ring(i64 i, const i64 (&at)[Dim], i64 ring) {
        i64 row[Dim];
        const i64 depth = Dim == 3 ? ring : 0;
        for (i64 dz = -depth; dz <= depth; ++dz)
            for (i64 dy = -ring; dy <= ring; ++dy) {
                row[1] = at[1] + dy;
                if constexpr (Dim == 3) row[2] = at[2] + dz;
                const bool face = std::max(std::abs(dy), std::abs(dz)) == ring;
                if (face || ring == FIRST_RING) {
                    if (!add(i, list_.row(row, at[0] - ring, at[0] + ring))) return false;
                } else if (!add(i, list_.row(row, at[0] - ring, at[0] - ring)) ||
                           !add(i, list_.row(row, at[0] + ring, at[0] + ring))) {
                    return false;
                }
            }
        return true;
    }

    bool add(i64 i, Run run) {
        if (candidates_.size() + run.last - run.first > MOST_CANDIDATES) return false;
        candidates_.add(i, run);
        return true;
    }

    // A lower bound of the distance to the cells outside the rings seen; very large where there are none.
    double unseen_from(i64 i, const i64 (&at)[Dim], i64 ring) const {
        double least = 1e18;
        for (int d = 0; d < Dim; ++d) {
            const double x = cells_.axis[d][i];
            if (at[d] - ring > 0) least = std::min(least, x - list_.wall(d, at[d] - ring));
            if (at[d] + ring + 1 < list_.bins(d)) least = std::min(least, list_.wall(d, at[d] + ring + 1) - x);
        }
        return least - ROUNDING * list_.side();
    }

    // A squared distance up to `high`, which holds `above` candidates, that holds at least k + 1 (the cell itself is one) and
    // few more. In an even plane as many lie within as the square is large: a straight line is a good guess, a few times.
    float limit_of(float high, i64 above) const {
        float low = 0;
        i64 below = 0;
        for (int step = 0; step < 24 && above > k_ + 1; ++step) {
            const float share = step < 8 ? (float(k_ - below) + 1.5f) / float(above - below + 1) : 0.5f;
            const float middle = step == 0 ? std::min(high * share, first_guess_) : low + (high - low) * share;
            if (!(middle > low && middle < high)) break;
            const i64 held = candidates_.count(-1.0f, middle);
            if (held > k_) high = middle, above = held;
            else low = middle, below = held;
        }
        return high;
    }

    // Of the candidates up to `limit`, the k nearest by exact distance, then by index.
    void take(i64 i, float limit, i32* indices, float* distance) {
        first_guess_ = limit;
        candidates_.keep(-1.0f, std::max(limit * float(1 + 4 * ROUNDING), float(TINY * TINY)), row_);
        row_.measure(i, -1.0, std::numeric_limits<double>::infinity());
        // Distances are not negative: their bits sort as they do.
        const u64 any = std::numeric_limits<u64>::max();
        if (row_.size() > k_) row_.keep_smallest(k_, any, [](i32, double d) { return std::bit_cast<u64>(d); });
        row_.write(0, indices, distance);
    }

    const CellList<Dim>& list_;
    Cells<Dim> cells_;
    i64 k_;
    float first_guess_ = std::numeric_limits<float>::max();
    Candidates<Dim> candidates_{cells_};
    Row<Dim> row_{cells_};
};

template <int Dim>
void search_nearest(const float* pos, i64 n, i64 k, i32* indices, float* distance, unsigned char* given_up) {
    const CellList<Dim> list = list_for_nearest<Dim>(pos, n, k);
    const i64 bins = list.occupied();
    Guarded guarded;
#pragma omp parallel
    {
        std::optional<NearestSearch<Dim>> search;
        guarded([&] { search.emplace(list, k); });
#pragma omp for schedule(dynamic, 64)
        for (i64 b = 0; b < bins; ++b)
            guarded([&] {
                i64 at[Dim];
                list.place(b, at);
                const Run own = list.cells(b);
                for (i64 i = own.first; i < own.last; ++i) {
                    if (i + AHEAD < n) fetch_row(list.ids()[i + AHEAD] * k, (list.ids()[i + AHEAD] + 1) * k, indices, distance);
                    const i64 row = list.ids()[i];
                    given_up[row] = !search->find(i, at, indices + row * k, distance + row * k);
                }
            });
    }
    guarded.rethrow();
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
    def(m, "radius_neighbors", &radius_neighbors);
    def(m, "knn_neighbors", &knn_neighbors);
}

}  // namespace metaniche
