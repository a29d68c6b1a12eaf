// Reads and writes of up to 16 bytes a lane, as float: the arithmetic is float32 whatever the arrays hold.
#pragma once
#include "common/types.h"

namespace metaniche {

// bfloat16 as it lies in memory.
struct alignas(2) bf16 {
    unsigned short bits;
};

template <int Bytes>
struct Word;
template <>
struct Word<2> { using type = unsigned short; };
template <>
struct Word<4> { using type = u32; };
template <>
struct Word<8> { using type = uint2; };
template <>
struct Word<16> { using type = uint4; };

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }

__device__ __forceinline__ void narrow(float x, float& to) { to = x; }
__device__ __forceinline__ void narrow(float x, bf16& to) {
    const u32 u = __float_as_uint(x);
    // Round to nearest even; a NaN must not round to infinity.
    to.bits = (unsigned short)(x != x ? 0x7fc0u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// The `Count` numbers that lie in one word.
template <int Count, class T>
__device__ __forceinline__ void unpack(typename Word<Count * int(sizeof(T))>::type word, float (&x)[Count]) {
    constexpr int Each = Count > 1 ? 4 / int(sizeof(T)) : 1;  // numbers in 32 bits
    union Both {
        typename Word<Count * int(sizeof(T))>::type word;
        T item[Count];
        u32 bits[Count / Each];
        __device__ Both() {}
    } both;
    both.word = word;
#pragma unroll
    for (int c = 0; c < Count; ++c) {
        // The later of two bfloat16 stands where a float has its upper bits.
        const bool upper = Each == 2 && c % 2 == 1;
        x[c] = upper ? __uint_as_float(both.bits[c / 2] & 0xffff0000u) : widen(both.item[c]);
    }
}

// `Count` neighbours at `from`, which is aligned to all of them.
template <int Count, class T>
__device__ __forceinline__ void load(const T* from, float (&x)[Count]) {
    unpack<Count, T>(__ldg(reinterpret_cast<const typename Word<Count * int(sizeof(T))>::type*>(from)), x);
}

template <int Count, class T>
__device__ __forceinline__ void store(T* to, const float (&x)[Count]) {
    using W = typename Word<Count * int(sizeof(T))>::type;
    union Both {
        W word;
        T item[Count];
        __device__ Both() {}
    } both;
#pragma unroll
    for (int c = 0; c < Count; ++c) narrow(x[c], both.item[c]);
    __stwb(reinterpret_cast<W*>(to), both.word);
}

}  // namespace metaniche
