// Cells sorted into square bins: the candidates near a cell are a few contiguous runs of the sorted cells.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/types.h"

namespace metaniche {

// Coordinates and ids may be read this far past the last cell: loops over candidates run in whole vectors.
constexpr i64 PADDING = 16;

// A contiguous range of sorted cells.
struct Run {
    i32 first, last;
};

// The cells of one sample in bins of side `side`, sorted by bin; no bin has a capacity. Where the bounding box is
// mostly empty only occupied bins are kept, in order of their keys, and looked up by bisection.
template <int Dim>
class CellList {
public:
    // Bins are counted in 64 bits; a box with more than this many bins a side gets wider bins.
    static constexpr i64 MOST_BINS_A_SIDE = i64(1) << (62 / Dim);

    CellList(const float* pos, i64 n, double side) : n_(n) {
        double high[Dim];
        for (int d = 0; d < Dim; ++d) {
            low_[d] = high[d] = n ? pos[d] : 0.0;
            float least = float(low_[d]), most = least;
            for (i64 i = 1; i < n; ++i) {
                least = std::min(least, pos[i * Dim + d]);
                most = std::max(most, pos[i * Dim + d]);
            }
            low_[d] = least;
            high[d] = most;
            side = std::max(side, (high[d] - low_[d]) / double(MOST_BINS_A_SIDE - 2));
        }
        side_ = side > 0 ? side : 1.0;
        double bins = 1;
        for (int d = 0; d < Dim; ++d) {
            bins_[d] = i64((high[d] - low_[d]) / side_) + 1;
            bins *= double(bins_[d]);
        }
        dense_ = bins <= 4.0 * double(n) + 1024.0;
        dense_ ? sort_densely(pos) : sort_sparsely(pos);
    }

    i64 size() const { return n_; }
    double side() const { return side_; }
    i64 occupied() const { return i64(keys_.size()); }
    i64 bins(int d) const { return bins_[d]; }
    double wall(int d, i64 bin) const { return low_[d] + double(bin) * side_; }
    const float* axis(int d) const { return axes_[d].data(); }
    const i32* ids() const { return ids_.data(); }

    // The b-th occupied bin: its cells, and where it stands.
    Run cells(i64 b) const { return {starts_[b], starts_[b + 1]}; }
    void place(i64 b, i64 (&at)[Dim]) const {
        u64 key = keys_[b];
        for (int d = 0; d < Dim; ++d) {
            at[d] = i64(key % u64(bins_[d]));
            key /= u64(bins_[d]);
        }
    }

    // Cells of the bins first..last (inclusive, clipped to the box) of the row that the other axes of `at` name.
    Run row(const i64 (&at)[Dim], i64 first, i64 last) const {
        for (int d = 1; d < Dim; ++d)
            if (at[d] < 0 || at[d] >= bins_[d]) return {0, 0};
        first = std::max<i64>(first, 0);
        last = std::min(last, bins_[0] - 1);
        if (first > last) return {0, 0};
        u64 base = 0;
        for (int d = Dim - 1; d > 0; --d) base = (base + u64(at[d])) * u64(bins_[d - 1]);
        return {start_of(base + u64(first)), start_of(base + u64(last) + 1)};
    }

private:
    i64 bin_along(int d, float x) const {
        return std::min(i64((double(x) - low_[d]) / side_), bins_[d] - 1);
    }

    u64 key_of(const float* point) const {
        u64 key = 0;
        for (int d = Dim - 1; d >= 0; --d) key = key * u64(bins_[d]) + u64(bin_along(d, point[d]));
        return key;
    }

    i32 start_of(u64 key) const {
        if (dense_) return table_[key];
        return starts_[std::lower_bound(keys_.begin(), keys_.end(), key) - keys_.begin()];
    }

    void sort_densely(const float* pos) {
        u64 bins = 1;
        for (int d = 0; d < Dim; ++d) bins *= u64(bins_[d]);
        std::vector<u32> key(n_);
#pragma omp parallel for schedule(static)
        for (i64 i = 0; i < n_; ++i) key[i] = u32(key_of(pos + i * Dim));
        table_.assign(bins + 1, 0);
        for (i64 i = 0; i < n_; ++i) ++table_[key[i] + 1];
        for (u64 b = 0; b < bins; ++b) {
            if (table_[b + 1]) {
                keys_.push_back(b);
                starts_.push_back(table_[b]);
            }
            table_[b + 1] += table_[b];
        }
        starts_.push_back(i32(n_));
        std::vector<i32> next(table_.begin(), table_.end() - 1), order(n_ + PADDING);
        for (i64 i = 0; i < n_; ++i) order[next[key[i]]++] = i32(i);
        gather(pos, order);
    }

    void sort_sparsely(const float* pos) {
        std::vector<std::pair<u64, i32>> cells(n_);
#pragma omp parallel for schedule(static)
        for (i64 i = 0; i < n_; ++i) cells[i] = {key_of(pos + i * Dim), i32(i)};
        std::sort(cells.begin(), cells.end());
        std::vector<i32> order(n_ + PADDING);
        for (i64 s = 0; s < n_; ++s) {
            if (s == 0 || cells[s].first != cells[s - 1].first) {
                keys_.push_back(cells[s].first);
                starts_.push_back(i32(s));
            }
            order[s] = cells[s].second;
        }
        starts_.push_back(i32(n_));
        gather(pos, order);
    }

    void gather(const float* pos, std::vector<i32>& order) {
        for (auto& axis : axes_) axis.resize(n_ + PADDING);
#pragma omp parallel for schedule(static)
        for (i64 s = 0; s < n_; ++s)
            for (int d = 0; d < Dim; ++d) axes_[d][s] = pos[i64(order[s]) * Dim + d];
        ids_.swap(order);
    }

    i64 n_, bins_[Dim];
    double low_[Dim], side_;
    bool dense_;
    std::vector<u64> keys_;
    std::vector<i32> starts_, table_, ids_;
    std::vector<float> axes_[Dim];
};

}  // namespace metaniche
