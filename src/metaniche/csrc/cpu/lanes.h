// Numbers that fill whole vectors of the processor, so that none is left to be worked on by itself.
#pragma once
#include <cstring>

#include "common/types.h"

namespace metaniche {

#if defined(__AVX512F__)
constexpr i64 VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr i64 VECTOR_BYTES = 32;
#else
constexpr i64 VECTOR_BYTES = 16;
#endif

template <class T, i64 N>
struct Lanes {
    typedef T Vector __attribute__((vector_size(N * sizeof(T))));
    static Vector load(const T* from) {
        Vector x;
        std::memcpy(&x, from, sizeof x);
        return x;
    }
};

template <class T>
constexpr i64 LANES = VECTOR_BYTES / i64(sizeof(T));

// n rounded up to whole vectors.
template <class T>
constexpr i64 padded(i64 n) {
    return (n + LANES<T> - 1) / LANES<T> * LANES<T>;
}

// What the N lanes of a vector become when halves are put together until one number is left.
template <class T, i64 N, class Both>
T folded(const typename Lanes<T, N>::Vector& x, Both&& both) {
    if constexpr (N == 1) {
        return x[0];
    } else {
        typename Lanes<T, N / 2>::Vector low, high;
        std::memcpy(&low, &x, sizeof low);
        std::memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof low, sizeof high);
        return folded<T, N / 2>(both(low, high), both);
    }
}

template <class T, i64 N>
T sum_of_lanes(const typename Lanes<T, N>::Vector& x) {
    return folded<T, N>(x, [](auto a, auto b) { return a + b; });
}

// The sum of `size` numbers, whole vectors of them.
template <class T>
T sum(const T* x, i64 size) {
    typename Lanes<T, LANES<T>>::Vector total = {};
    for (i64 i = 0; i < size; i += LANES<T>) total += Lanes<T, LANES<T>>::load(x + i);
    return sum_of_lanes<T, LANES<T>>(total);
}

// The largest of them, and of `least`; a NaN among them does not count.
template <class T>
T largest(const T* x, i64 size, T least) {
    const auto larger = [](auto a, auto b) { return b > a ? b : a; };
    auto top = typename Lanes<T, LANES<T>>::Vector{} + least;
    for (i64 i = 0; i < size; i += LANES<T>) top = larger(top, Lanes<T, LANES<T>>::load(x + i));
    return folded<T, LANES<T>>(top, larger);
}

}  // namespace metaniche
