// Dot products with the rows that edges name, and weighted sums of them, for one head of an attention.
#pragma once
#include <algorithm>
#include <cstring>

#include "common/types.h"
#include "cpu/tile.h"

namespace metaniche {

constexpr i64 CACHE_LINE = 64;  // bytes

// Rows `cells` of a matrix, from the channels of one head on.
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

// `count` heads of D channels, which stay in registers.
template <class T, int D>
struct Heads {
    using Own = Tile<T, D>;
    i64 count;
    Heads(i64 heads, i64) : count(heads) {}
    i64 channels() const { return D; }

    T dot(const T* a, const T* b) const { return sum_of_lanes<T, Own::LANES>(Own(a).products(b)); }
    // to[e] = a . rows[e]; `to` has room for whole vectors.
    void dots(const T* a, const Rows<T>& rows, T* to) const {
        const Own own(a);
        typename Own::Vector products[Own::LANES];
        for (i64 first = 0; first < rows.count; first += Own::LANES) {
            for (i64 e = 0; e < Own::LANES; ++e)
                products[e] = first + e < rows.count ? own.products(rows[first + e]) : typename Own::Vector{};
            const auto sums = Own::sums(products);
            std::memcpy(to + first, &sums, sizeof sums);
        }
    }
    // to = factor * sum of weights[e] rows[e], in two sums at a time: one waits for each of its additions.
    void sum(const T* weights, const Rows<T>& rows, T factor, T* to) const {
        Own even, odd;
        i64 e = 0;
        for (; e + 1 < rows.count; e += 2) {
            even.add(weights[e], rows[e]);
            odd.add(weights[e + 1], rows[e + 1]);
        }
        if (e < rows.count) even.add(weights[e], rows[e]);
        even.join(odd, factor);
        even.store(to);
    }
};

// Heads of as many channels as are known at run time only.
template <class T>
struct Heads<T, 0> {
    i64 count, d;
    Heads(i64 heads, i64 channels) : count(heads), d(channels) {}
    i64 channels() const { return d; }

    T dot(const T* a, const T* b) const {
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (i64 c = 0; c < d; ++c) sum += a[c] * b[c];
        return sum;
    }
    void dots(const T* a, const Rows<T>& rows, T* to) const {
        for (i64 e = 0; e < rows.count; ++e) to[e] = dot(a, rows[e]);
    }
    void sum(const T* weights, const Rows<T>& rows, T factor, T* to) const {
        std::fill(to, to + d, T(0));
        for (i64 e = 0; e < rows.count; ++e) {
            const T *row = rows[e], weight = weights[e] * factor;
#pragma omp simd
            for (i64 c = 0; c < d; ++c) to[c] += weight * row[c];
        }
    }
};

template <class T, class Run>
void with_heads(i64 count, i64 channels, Run&& run) {
    switch (channels) {
        case 8: return run(Heads<T, 8>(count, channels));
        case 16: return run(Heads<T, 16>(count, channels));
        case 32: return run(Heads<T, 32>(count, channels));
        case 64: return run(Heads<T, 64>(count, channels));
        default: return run(Heads<T, 0>(count, channels));
    }
}

}  // namespace metaniche
