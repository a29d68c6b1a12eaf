// Types and function marks that a host compiler, NVRTC and the host shim of the tests agree on; no other header.
#pragma once

#if defined(__CUDACC__) || defined(METANICHE_HOST_SHIM)
#define METANICHE_BOTH __host__ __device__ __forceinline__
#else
#define METANICHE_BOTH inline
#endif

namespace metaniche {

using u8 = unsigned char;
using i16 = short;
using i32 = int;
using i64 = long long;
using u32 = unsigned int;
using u64 = unsigned long long;

// All lanes of a warp.
constexpr u32 ALL = 0xffffffffu;

}  // namespace metaniche
