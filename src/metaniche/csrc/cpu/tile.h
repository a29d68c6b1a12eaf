// A few vectors of numbers that stay in registers while rows are added to them.
#pragma once
#include <algorithm>
#include <cstring>
#include <utility>

#include "common/types.h"
#include "cpu/lanes.h"

namespace metaniche {

// A few columns, at most 64. An array would do, but compilers keep arrays in memory; a product then takes three times as long.
template <class T, i64 Columns = 64>
struct Tile {
    static constexpr i64 COLUMNS = Columns;
    static constexpr i64 LANES = std::min(metaniche::LANES<T>, Columns);
    using Vector = typename Lanes<T, LANES>::Vector;
    Vector parts[COLUMNS / LANES];

    Tile() : parts{} {}
    // A vector at a time: what is copied by halves has to wait when it is read whole.
    explicit Tile(const T* from) {
        for (i64 p = 0; p < COLUMNS / LANES; ++p) parts[p] = part(from, p);
    }
    void store(T* to) const { std::memcpy(to, parts, sizeof parts); }
    static Vector part(const T* row, i64 p) { return Lanes<T, LANES>::load(row + p * LANES); }
    // += factor * row
    void add(T factor, const T* row) {
        for (i64 p = 0; p < COLUMNS / LANES; ++p) parts[p] += factor * part(row, p);
    }
    // += factor * (row - origin)
    void add_deviation(T factor, const T* row, const Tile& origin) {
        for (i64 p = 0; p < COLUMNS / LANES; ++p) parts[p] += factor * (part(row, p) - origin.parts[p]);
    }
    // = factor * (this + other)
    void join(const Tile& other, T factor) {
        for (i64 p = 0; p < COLUMNS / LANES; ++p) parts[p] = factor * (parts[p] + other.parts[p]);
    }
    // A vector whose lanes add up to the dot product with a row.
    Vector products(const T* row) const {
        Vector sums = {};
        for (i64 p = 0; p < COLUMNS / LANES; ++p) sums += parts[p] * part(row, p);
        return sums;
    }
    // The sum of the lanes of each of LANES vectors, which are used up.
    template <i64 N = LANES>
    static Vector sums(Vector* of) {
        if constexpr (N == 1) {
            return of[0];
        } else {
            for (i64 i = 0; i < N / 2; ++i)
                of[i] = neighbours_added(of[2 * i], of[2 * i + 1], std::make_index_sequence<LANES>());
            return sums<N / 2>(of);
        }
    }

private:
    // (a0 + a1, a2 + a3, ..., b0 + b1, b2 + b3, ...)
    template <std::size_t... L>
    static Vector neighbours_added(const Vector& a, const Vector& b, std::index_sequence<L...>) {
        return Vector{(2 * L < LANES ? a : b)[2 * L % LANES]...} + Vector{(2 * L < LANES ? a : b)[2 * L % LANES + 1]...};
    }
};

// Covers n columns, n at most 64, by one tile or by tiles of 64 bytes: visit(first, tile) for what tiles hold, rest(first)
// from where none fits.
template <class T, class Visit, class Rest>
void in_tiles(i64 n, Visit&& visit, Rest&& rest) {
    i64 first = 0;
    if (n == Tile<T>::COLUMNS) return visit(first, Tile<T>());
    using Small = Tile<T, 64 / i64(sizeof(T))>;
    for (; first + Small::COLUMNS <= n; first += Small::COLUMNS) visit(first, Small());
    if (first < n) rest(first);
}

}  // namespace metaniche
