// Dot products with the rows that edges name, and weighted sums of them.
#pragma once
#include <cstring>
#include <type_traits>
#include <vector>

#include "common/types.h"
#include "cpu/tile.h"

namespace metaniche {

constexpr i64 CACHE_LINE = 64;  // bytes
constexpr i64 AHEAD = 2;        // cells; the rows of their neighbours lie scattered, and are fetched before their turn

// Numbers per head and edge of one cell, which stay for the next: (heads, degree), each head padded to whole vectors.
template <class T>
struct Scratch {
    std::vector<T> numbers;
    T* of(i64 heads, i64 degree) {
        if (i64(numbers.size()) < heads * padded<T>(degree)) numbers.resize(heads * padded<T>(degree));
        return numbers.data();
    }
};

// Rows `cells` of a matrix, from one of its columns on.
template <class T>
struct Rows {
    const T* from;
    i64 stride;
    const i32* cells;
    i64 count;
    const T* operator[](i64 e) const { return from + cells[e] * stride; }
    // Brings `width` numbers of each row near. Inlined, for compilers drop the call of a function that does nothing else.
    [[gnu::always_inline]] void prefetch(i64 width) const {
        for (i64 e = 0; e < count; ++e)
            for (i64 c = 0; c < width; c += CACHE_LINE / i64(sizeof(T))) __builtin_prefetch((*this)[e] + c);
    }
};

// to[e] = sum of the lanes of products(rows[e]); `to` has room for whole vectors.
template <class T, i64 L, class Products>
[[gnu::always_inline]] inline void sum_each(const Rows<T>& rows, Products&& products, T* to) {
    typename Lanes<T, L>::Vector block[L];
    for (i64 first = 0; first < rows.count; first += L) {
        for (i64 e = 0; e < L; ++e)
            block[e] = first + e < rows.count ? products(rows[first + e]) : typename Lanes<T, L>::Vector{};
        const auto sums = Tile<T, L>::sums(block);
        std::memcpy(to + first, &sums, sizeof sums);
    }
}

// to[:Columns] = factor * sum of weights[e] rows[e]. An addition waits for the one before, so a few vectors have two sums.
template <class T, i64 Columns>
void sum_columns(const T* weights, const Rows<T>& rows, T factor, T* to) {
    Tile<T, Columns> even, odd;
    i64 e = 0;
    if constexpr (Columns / Tile<T, Columns>::LANES <= 4)
        for (; e + 1 < rows.count; e += 2) {
            even.add(weights[e], rows[e]);
            odd.add(weights[e + 1], rows[e + 1]);
        }
    for (; e < rows.count; ++e) even.add(weights[e], rows[e]);
    even.join(odd, factor);
    even.store(to);
}

// Rows of D columns, known to the compiler.
template <class T, int D>
struct Width {
    using Own = Tile<T, D>;
    explicit Width(i64) {}
    i64 count() const { return D; }
    T dot(const T* a, const T* b) const { return sum_of_lanes<T, Own::LANES>(Own(a).products(b)); }
    // to[e] = a . rows[e]; `to` has room for whole vectors.
    void dots(const T* a, const Rows<T>& rows, T* to) const {
        const Own own(a);
        sum_each<T, Own::LANES>(rows, [&](const T* row) { return own.products(row); }, to);
    }
    // to = factor * sum of weights[e] rows[e]
    void sum(const T* weights, const Rows<T>& rows, T factor, T* to) const { sum_columns<T, D>(weights, rows, factor, to); }
};

// As many columns as are known at run time only: whole vectors, and one more that ends where the row ends.
template <class T>
struct Width<T, 0> {
    explicit Width(i64 count) : d(count) {}
    i64 count() const { return d; }
    T dot(const T* a, const T* b) const {
        return by_lanes([&](auto lanes) { return sum_of_lanes<T, lanes()>(Ending<lanes()>(a, d).products(b)); });
    }
    void dots(const T* a, const Rows<T>& rows, T* to) const {
        by_lanes([&](auto lanes) {
            const Ending<lanes()> own(a, d);
            sum_each<T, lanes()>(rows, [&](const T* row) { return own.products(row); }, to);
        });
    }
    void sum(const T* weights, const Rows<T>& rows, T factor, T* to) const {
        by_lanes([&](auto lanes) {
            constexpr i64 L = lanes(), TILE = Tile<T>::COLUMNS;
            const auto from = [&](i64 c) { return Rows<T>{rows.from + c, rows.stride, rows.cells, rows.count}; };
            i64 c = 0;
            for (; c + TILE <= d; c += TILE) sum_columns<T, TILE>(weights, from(c), factor, to + c);
            for (; c + L <= d; c += L) sum_columns<T, L>(weights, from(c), factor, to + c);
            if (c < d) sum_columns<T, L>(weights, from(d - L), factor, to + d - L);
        });
    }

   private:
    // a, and its last L numbers without those that whole vectors have, which count in no row.
    template <i64 L>
    struct Ending {
        using Vector = typename Lanes<T, L>::Vector;
        const T* a;
        i64 d, whole;
        Vector last = {}, counts = {};
        Ending(const T* x, i64 n) : a(x), d(n), whole(n / L * L) {
            for (i64 l = L - (d - whole); l < L; ++l) last[l] = a[d - L + l], counts[l] = 1;
        }
        Vector products(const T* row) const {
            Vector sums = {};
            if (whole < d) sums = last * (counts != Vector{} ? Lanes<T, L>::load(row + d - L) : Vector{});
            for (i64 c = 0; c < whole; c += L) sums += Lanes<T, L>::load(a + c) * Lanes<T, L>::load(row + c);
            return sums;
        }
    };
    // As many lanes as the processor has, or as fit into a row.
    template <i64 L = LANES<T>, class Run>
    auto by_lanes(Run&& run) const {
        if constexpr (L > 1)
            if (d < L) return by_lanes<L / 2>(run);
        return run(std::integral_constant<i64, L>());
    }
    i64 d;
};

template <class T, class Run>
void with_width(i64 count, Run&& run) {
    switch (count) {
        case 8: return run(Width<T, 8>(count));
        case 16: return run(Width<T, 16>(count));
        case 32: return run(Width<T, 32>(count));
        case 64: return run(Width<T, 64>(count));
        default: return run(Width<T, 0>(count));
    }
}

}  // namespace metaniche
