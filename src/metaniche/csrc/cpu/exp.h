// exp over a row of numbers; the float version is a polynomial that compilers turn into vector code.
#pragma once
#include <cmath>
#include <cstring>

#include "common/types.h"

namespace metaniche {

// Relative error below 2e-7; 0 below -87, NaN stays NaN. Cephes' range reduction and polynomial.
inline float exp_of(float x) {
    const float clamped = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    const float shifted = clamped * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
    const float n = shifted - 12582912.0f;
    const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const i32 exponent = (i32(n) + 127) << 23;
    float power;
    std::memcpy(&power, &exponent, 4);
    const float result = x < -87.0f ? 0.0f : p * power;
    return x != x ? x : result;
}

inline void exp_in_place(float* x, i64 n) {
#pragma omp simd
    for (i64 i = 0; i < n; ++i) x[i] = exp_of(x[i]);
}

inline void exp_in_place(double* x, i64 n) {
    for (i64 i = 0; i < n; ++i) x[i] = std::exp(x[i]);
}

}  // namespace metaniche
