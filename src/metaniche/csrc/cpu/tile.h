// A few vectors of numbers that stay in registers while rows are added to them.
#pragma once
#include <cstring>

#include "common/types.h"

namespace metaniche {

// 64 columns. An array would do, but compilers keep arrays in memory; a product then takes three times as long.
template <class T>
struct Tile {
    static constexpr i64 COLUMNS = 64;
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

}  // namespace metaniche
