// What a neighbour search keeps of one cell: candidates by float32 distance, then the row of exact ones.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "common/types.h"
#include "cpu/cell_list.h"
#include "cpu/lanes.h"

namespace metaniche {

// Three float32 roundings and the cast of the bound stay below this relative error of a squared distance.
constexpr double ROUNDING = 1e-6;

// A squared bound as float32: below `surely` a float32 square is within it, above `maybe` it is not. Within a distance below 0
// there is nothing.
struct Bound {
    float surely, maybe;
    explicit Bound(double distance) {
        const double square = distance * distance;
        const bool tiny = square < 1e-30;  // float32 squares underflow: nothing is sure
        surely = tiny ? -1.0f : float(square * (1 - ROUNDING));
        maybe = tiny ? 1e-29f : float(std::min(square * (1 + ROUNDING), double(std::numeric_limits<float>::max())));
        if (square > 1e37) surely = 0.0f, maybe = std::numeric_limits<float>::infinity();
        if (distance < 0) surely = maybe = -1.0f;
    }
};

// The sorted cells of a list. Loops over them run in whole vectors: what lies up to PADDING past the last is read.
template <int Dim>
struct Cells {
    const float* axis[Dim];
    const i32* ids;
    explicit Cells(const CellList<Dim>& list) : ids(list.ids()) {
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

// The neighbours of one cell while they are measured and sorted.
template <int Dim>
class Row {
public:
    explicit Row(const Cells<Dim>& cells) : cells_(cells) {}

    // Empty, with room for as many neighbours.
    void clear(i64 room) {
        n_ = 0;
        if (room + PADDING <= i64(index_.size())) return;
        for (auto& axis : axis_) axis.resize(2 * (room + PADDING));
        for (auto* numbers : {&index_, &rank_}) numbers->resize(2 * (room + PADDING));
        distance_.resize(2 * (room + PADDING));
    }
    i64 size() const { return n_; }

    // Of the sorted cells first..first + PADDING, those whose bit is set.
    void add(i64 first, u32 chosen) {
#ifdef __AVX512F__
        static_assert(PADDING == 16);
        const auto put = [&](auto* to, const auto* from) {
            _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(__mmask16(chosen), _mm512_loadu_si512(from)));
        };
        for (int d = 0; d < Dim; ++d) put(axis_[d].data() + n_, cells_.axis[d] + first);
        put(index_.data() + n_, cells_.ids + first);
        n_ += std::popcount(chosen);
#else
        for (; chosen; chosen &= chosen - 1, ++n_) {
            const i64 cell = first + std::countr_zero(chosen);
            for (int d = 0; d < Dim; ++d) axis_[d][n_] = cells_.axis[d][cell];
            index_[n_] = cells_.ids[cell];
        }
#endif
    }

    // Exact distances from sorted cell i; those with inner < d <= radius stay, never i itself.
    void measure(i64 i, double inner, double radius) {
        i32* index = index_.data();
        double *distance = distance_.data(), here[Dim];
        const float* axis[Dim];
        for (int d = 0; d < Dim; ++d) {
            axis[d] = axis_[d].data();
            here[d] = cells_.axis[d][i];
        }
        for (i64 start = 0; start < n_; start += PADDING)
#pragma omp simd
            for (i64 t = start; t < start + PADDING; ++t) {
                double sum = 0;
                for (int d = 0; d < Dim; ++d) {
                    const double difference = double(axis[d][t]) - here[d];
                    sum += difference * difference;
                }
                distance[t] = std::sqrt(sum);
            }
        const i64 near = n_;
        const i32 self = cells_.ids[i];
        i64 n = 0;
        for (i64 t = 0; t < near; ++t) {
            const i32 other = index[t];
            const double far = distance[t];
            index[n] = other;
            distance[n] = far;
            n += (far > inner) & (far <= radius) & (other != self);
        }
        n_ = n;
    }

    // Keeps the `most` entries of smallest key(index, distance), ties by index. Few keys up to `guess`, if they are enough, are
    // sooner sorted than all.
    template <class Key>
    void keep_smallest(i64 most, u64 guess, Key&& key) {
        key_.resize(n_);
        i64 within = 0;
#pragma omp simd reduction(+ : within)
        for (i64 t = 0; t < n_; ++t) {
            key_[t] = key(index_[t], distance_[t]);
            within += key_[t] <= guess;
        }
        if (within < most) guess = std::numeric_limits<u64>::max();
        keyed_.clear();
        for (i64 t = 0; t < n_; ++t)
            if (key_[t] <= guess) keyed_.push_back({key_[t], index_[t], distance_[t]});
        std::nth_element(keyed_.begin(), keyed_.begin() + (most - 1), keyed_.end());
        n_ = most;
        for (i64 t = 0; t < most; ++t) {
            index_[t] = std::get<1>(keyed_[t]);
            distance_[t] = std::get<2>(keyed_[t]);
        }
    }

    // Writes the row in ascending order of index, counted from `start`.
    void write(i64 start, i32* indices, float* distance) {
        rank();
        for (i64 t = 0; t < n_; ++t) {
            indices[rank_[t]] = i32(start + index_[t]);
            distance[rank_[t]] = float(distance_[t]);
        }
    }

private:
    // How many come before each. Rows are short: everyone counts.
    void rank() {
        if (n_ > 96) {
            order_.resize(n_);
            std::iota(order_.begin(), order_.end(), 0);
            std::sort(order_.begin(), order_.end(), [&](i32 a, i32 b) { return index_[a] < index_[b]; });
            for (i64 t = 0; t < n_; ++t) rank_[order_[t]] = i32(t);
            return;
        }
        using Few = Lanes<i32, LANES<i32>>;
        for (i64 t = 0; t < n_; t += LANES<i32>) {
            const auto mine = Few::load(index_.data() + t);
            typename Few::Vector before = {};
            for (i64 other = 0; other < n_; ++other) before -= index_[other] < mine;
            std::memcpy(rank_.data() + t, &before, sizeof before);
        }
    }

    Cells<Dim> cells_;
    i64 n_ = 0;
    std::vector<float> axis_[Dim];
    std::vector<i32> index_, rank_, order_;
    std::vector<double> distance_;
    std::vector<u64> key_;
    std::vector<std::tuple<u64, i32, double>> keyed_;
};

// Candidates of one cell: squared distances in whole vectors, and the sorted cell that each vector starts with. NaN, which is
// within no bound, fills the last vector of a run.
template <int Dim>
class Candidates {
public:
    explicit Candidates(const Cells<Dim>& cells) : cells_(cells) {}

    void clear() { n_ = vectors_ = 0; }
    i64 size() const { return n_; }

    void add(i64 i, Run run) {
        const i64 more = run.last - run.first;
        const i64 vectors = vectors_ + (more + PADDING - 1) / PADDING;
        if (vectors > i64(first_.size())) {
            first_.resize(2 * vectors);
            square_.resize(2 * vectors * PADDING);
        }
        for (i64 start = 0; start < more; start += PADDING, ++vectors_) {
            float* square = square_.data() + vectors_ * PADDING;
            const i64 first = first_[vectors_] = run.first + i32(start);
            const i32 left = i32(more - start);
#pragma omp simd
            for (i32 t = 0; t < i32(PADDING); ++t) {
                const float found = cells_.square(i, first + t);
                square[t] = t < left ? found : std::numeric_limits<float>::quiet_NaN();
            }
        }
        n_ += more;
    }

    // How many have above < square <= limit.
    i64 count(float above, float limit) const {
        i32 within = 0;
        const float* square = square_.data();
#pragma omp simd reduction(+ : within)
        for (i64 t = 0; t < vectors_ * PADDING; ++t) within += (square[t] > above) & (square[t] <= limit);
        return within;
    }

    // Puts the cells with above < square <= limit into `row`.
    void keep(float above, float limit, Row<Dim>& row) const {
        row.clear(vectors_ * PADDING);
        for (i64 v = 0; v < vectors_; ++v)
            if (const u32 chosen = within(square_.data() + v * PADDING, above, limit)) row.add(first_[v], chosen);
    }

private:
    // A bit per square with above < square <= limit.
    static u32 within(const float* square, float above, float limit) {
#ifdef __AVX512F__
        const __m512 here = _mm512_loadu_ps(square);
        const __mmask16 beyond = _mm512_cmp_ps_mask(here, _mm512_set1_ps(above), _CMP_GT_OQ);
        return _mm512_mask_cmp_ps_mask(beyond, here, _mm512_set1_ps(limit), _CMP_LE_OQ);
#else
        u32 bits = 0;
        for (int t = 0; t < PADDING; ++t) bits |= u32((square[t] > above) & (square[t] <= limit)) << t;
        return bits;
#endif
    }

    Cells<Dim> cells_;
    i64 n_ = 0, vectors_ = 0;
    std::vector<float> square_;
    std::vector<i32> first_;
};

}  // namespace metaniche
