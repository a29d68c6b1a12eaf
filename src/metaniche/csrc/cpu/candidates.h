// What a neighbour search keeps of one cell: candidates by float32 distance, then the row of exact ones.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include "common/types.h"
#include "cpu/cell_list.h"

namespace metaniche {

// Three float32 roundings and the cast of the bound stay below this relative error of a squared distance.
constexpr double ROUNDING = 1e-6;

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

// Candidates of one cell: squared distances in one array, and which sorted cell each belongs to. A run starts a vector of
// its own and NaN, which is within no bound, fills its last: what is written as a vector is read as one, and a processor that
// just wrote it need not wait.
class Candidates {
public:
    void clear() { n_ = filled_ = 0; }
    i64 size() const { return n_; }

    // Whole vectors are computed, past the run's end too: the padding of the cell list is read.
    template <int Dim>
    void add(const Cells<Dim>& cells, i64 i, Run run) {
        const i64 more = run.last - run.first;
        if (filled_ + more + PADDING > i64(square_.size())) {
            square_.resize(2 * (filled_ + more + PADDING));
            cell_.resize(square_.size());
            kept_.resize(square_.size());
        }
        for (i64 start = 0; start < more; start += PADDING, filled_ += PADDING) {
            float* square = square_.data() + filled_;
            i32* cell = cell_.data() + filled_;
            const i32 first = run.first + i32(start), left = i32(more - start);
#pragma omp simd
            for (i32 t = 0; t < i32(PADDING); ++t) {
                const float found = cells.square(i, first + t);
                square[t] = t < left ? found : std::numeric_limits<float>::quiet_NaN();
                cell[t] = first + t;
            }
        }
        n_ += more;
    }

    i64 count(float limit) const {
        i32 below = 0;
        const float* square = square_.data();
#pragma omp simd reduction(+ : below)
        for (i64 t = 0; t < filled_; ++t) below += square[t] <= limit;
        return below;
    }

    // Puts the cells with more < square <= most into kept(), without a branch per candidate, and counts them.
    i64 keep(float more, float most) {
        const float* square = square_.data();
        const i32* cell = cell_.data();
        i32* kept = kept_.data();
        i64 n = 0;
#ifdef __AVX512F__
        static_assert(PADDING == 16);
        const __m512 least = _mm512_set1_ps(more), limit = _mm512_set1_ps(most);
        for (i64 t = 0; t < filled_; t += PADDING) {
            const __m512 here = _mm512_loadu_ps(square + t);
            const __mmask16 stays = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(here, least, _CMP_GT_OQ), here, limit, _CMP_LE_OQ);
            _mm512_storeu_si512(kept + n, _mm512_maskz_compress_epi32(stays, _mm512_loadu_si512(cell + t)));
            n += __builtin_popcount(stays);
        }
#else
        for (i64 t = 0; t < filled_; ++t) {
            kept[n] = cell[t];
            n += (square[t] > more) & (square[t] <= most);
        }
#endif
        return n;
    }
    const i32* kept() const { return kept_.data(); }

private:
    i64 n_ = 0, filled_ = 0;
    std::vector<float> square_;
    std::vector<i32> cell_, kept_;
};

// A neighbour as one sortable number: its index above, the bits of its float32 distance below.
inline u64 packed(i32 index, double distance) {
    const float rounded = float(distance);
    u32 bits;
    std::memcpy(&bits, &rounded, 4);
    return u64(u32(index)) << 32 | bits;
}

inline void unpack(u64 neighbor, i64 start, i32* index, float* distance) {
    *index = i32(start + i64(neighbor >> 32));
    const u32 bits = u32(neighbor);
    std::memcpy(distance, &bits, 4);
}

// The neighbours of one cell while they are sorted.
class Row {
public:
    i64 size() const { return n_; }
    const i32* index() const { return index_.data(); }
    const double* distance() const { return distance_.data(); }

    // Exact distances of the sorted cells cells[0..n) from cell i; those with inner < d <= radius stay, never i itself.
    template <int Dim>
    void take(const Cells<Dim>& from, const i32* ids, i64 i, const i32* cells, i64 n, double inner, double radius) {
        if (n > i64(index_.size())) {
            index_.resize(2 * n);
            distance_.resize(2 * n);
            rank_.resize(2 * n);
        }
        double* distance = distance_.data();
#pragma omp simd
        for (i64 t = 0; t < n; ++t) distance[t] = from.distance(i, cells[t]);
        n_ = 0;
        for (i64 t = 0; t < n; ++t) {
            index_[n_] = ids[cells[t]];
            distance[n_] = distance[t];
            n_ += (distance[t] > inner) & (distance[t] <= radius) & (cells[t] != i);
        }
    }

    // In ascending order of index. Rows are short: everyone counts who comes before.
    void sort_into(u64* out) {
        i32 *index = index_.data(), *rank = rank_.data();
        if (n_ > 96) {
            for (i64 t = 0; t < n_; ++t) out[t] = packed(index[t], distance_[t]);
            return std::sort(out, out + n_);
        }
        std::fill(rank, rank + n_, 0);
        for (i64 other = 0; other < n_; ++other) {
            const i32 candidate = index[other];
#pragma omp simd
            for (i64 t = 0; t < n_; ++t) rank[t] += candidate < index[t];
        }
        for (i64 t = 0; t < n_; ++t) out[rank[t]] = packed(index[t], distance_[t]);
    }

    // Keeps the `most` entries of smallest key(index, distance), ties by index.
    template <class Key>
    void keep_smallest(i64 most, Key&& key) {
        keyed_.clear();
        for (i64 t = 0; t < n_; ++t) keyed_.push_back({key(index_[t], distance_[t]), index_[t], distance_[t]});
        std::nth_element(keyed_.begin(), keyed_.begin() + (most - 1), keyed_.end());
        n_ = most;
        for (i64 t = 0; t < most; ++t) {
            index_[t] = std::get<1>(keyed_[t]);
            distance_[t] = std::get<2>(keyed_[t]);
        }
    }

private:
    i64 n_ = 0;
    std::vector<i32> index_, rank_;
    std::vector<double> distance_;
    std::vector<std::tuple<u64, i32, double>> keyed_;
};

}  // namespace metaniche
