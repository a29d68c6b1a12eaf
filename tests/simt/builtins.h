// The intrinsics that kernels call, on fibers.
#pragma once
#include <algorithm>
#include <bit>

#define threadIdx (simt::block.running->thread)
#define blockIdx (simt::block.index)
#define blockDim (simt::block.threads)
#define gridDim (simt::block.grid)

using std::exp;
using std::max;
using std::min;

inline void __syncthreads() { simt::leave(simt::State::at_block_barrier); }
inline void __syncwarp(uint32_t mask = 0xffffffffu) { simt::meet(simt::Op::sync, mask); }
inline void __threadfence() {}

template <class T>
T __shfl_sync(uint32_t mask, T x, int source, int width = 32) {
    return simt::shuffle(mask, x, (simt::lane() & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T x, int bits) { return simt::shuffle(mask, x, simt::lane() ^ bits); }
template <class T>
T __shfl_up_sync(uint32_t mask, T x, int by) {
    return simt::shuffle(mask, x, simt::lane() < by ? simt::lane() : simt::lane() - by);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T x, int by) {
    return simt::shuffle(mask, x, simt::lane() + by > 31 ? simt::lane() : simt::lane() + by);
}
inline uint32_t __ballot_sync(uint32_t mask, int vote) { return uint32_t(simt::meet(simt::Op::ballot, mask, vote != 0)); }
inline int __any_sync(uint32_t mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(uint32_t mask, int vote) { return __ballot_sync(mask, !vote) == 0; }
inline uint32_t __reduce_add_sync(uint32_t mask, uint32_t x) { return uint32_t(simt::meet(simt::Op::add, mask, x)); }
inline uint32_t __reduce_min_sync(uint32_t mask, uint32_t x) { return uint32_t(simt::meet(simt::Op::minimum, mask, x)); }
inline uint32_t __reduce_max_sync(uint32_t mask, uint32_t x) { return uint32_t(simt::meet(simt::Op::maximum, mask, x)); }

template <class T>
T __ldg(const T* p) { return *simt::aligned(p); }
template <class T>
void __stwb(T* p, T x) { *const_cast<T*>(simt::aligned(p)) = x; }

// Between reading and writing nobody else runs; before, anybody may.
template <class T, class Change>
T simt_atomic(T* p, Change&& change) {
    simt::block.ready.push_back(simt::block.running->index);
    simt::leave(simt::State::ready);
    const T old = *simt::aligned(p);
    *p = change(old);
    return old;
}
template <class T>
T atomicAdd(T* p, T x) { return simt_atomic(p, [=](T old) { return old + x; }); }
template <class T>
T atomicMin(T* p, T x) { return simt_atomic(p, [=](T old) { return std::min(old, x); }); }
template <class T>
T atomicMax(T* p, T x) { return simt_atomic(p, [=](T old) { return std::max(old, x); }); }
template <class T>
T atomicExch(T* p, T x) { return simt_atomic(p, [=](T) { return x; }); }
template <class T>
T atomicCAS(T* p, T compare, T x) { return simt_atomic(p, [=](T old) { return old == compare ? x : old; }); }

inline float __uint_as_float(uint32_t x) { return std::bit_cast<float>(x); }
inline uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __popc(uint32_t x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return std::countl_zero(uint32_t(x)); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
// glibc declares these names.
#define __expf(x) expf(x)
#define __logf(x) logf(x)
