// The Hill function x^n / (K^n + x^n), in a form that neither overflows nor loses a small K^n.
// A host compiler takes powf from <cmath>, which its sources include before.
#pragma once
#include "common/types.h"

namespace metaniche {

struct Hill {
    float inverse_half;  // 1 / K; 0 stands for the plain product
    float exponent;
    METANICHE_BOTH bool saturates() const { return inverse_half > 0.0f; }
    METANICHE_BOTH float operator()(float x) const {
        const float ratio = x * inverse_half;
        const float power = exponent == 1.0f ? ratio : powf(ratio, exponent);
        return power > 3.0e38f ? 1.0f : power / (1.0f + power);
    }
};

}  // namespace metaniche
