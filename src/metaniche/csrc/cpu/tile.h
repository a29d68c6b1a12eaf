// A few vectors of numbers that stay in registers while rows are added to them.
#pragma once
#include <cstring>

#include "common/types.h"

namespace metaniche {

// 64 columns, or one vector of 16 float32. An array would do, but compilers keep arrays in memory; a product then takes three times as long.
template <class T, i64 Columns = 64>
struct Tile {
    static constexpr i64 COLUMNS = Columns;
    static constexpr i64 LANES = 64 / i64(sizeof(T));
    typedef T Vector __attribute__((vector_size(64)));
    Vector parts[COLUMNS / LANES];

    Tile() { std::memset(parts, 0, sizeof parts); }
    explicit Tile(const T* from) { std::memcpy(parts, from, sizeof parts); }
    void store(T* to) const { std::memcpy(to, parts, sizeof parts); }
    // += factor * row
    void add(T factor, const T* row) {
        for (i64 p = 0; p < COLUMNS / LANES; ++p) {
            Vector x;
            std::memcpy(&x, row + p * LANES, sizeof x);
            parts[p] += factor * x;
        }
    }
    // += factor * (row - origin)
    void add_deviation(T factor, const T* row, const Tile& origin) {
        for (i64 p = 0; p < COLUMNS / LANES; ++p) {
            Vector x;
            std::memcpy(&x, row + p * LANES, sizeof x);
            parts[p] += factor * (x - origin.parts[p]);
        }
    }
};

// Covers n columns, n at most 64: visit(first, tile) for what tiles hold, rest(first) from where none fits.
template <class T, class Visit, class Rest>
void in_tiles(i64 n, Visit&& visit, Rest&& rest) {
    i64 first = 0;
    if (n == Tile<T>::COLUMNS) return visit(first, Tile<T>());
    using Small = Tile<T, Tile<T>::LANES>;
    for (; first + Small::COLUMNS <= n; first += Small::COLUMNS) visit(first, Small());
    if (first < n) rest(first);
}

}  // namespace metaniche
