// Expression of a complex from that of its subunits. A host compiler takes pow from <cmath>, which its sources
// include before.
#pragma once
#include "common/types.h"

namespace metaniche {

// The minimum or the geometric mean of x(genes[0]), ..., x(genes[count - 1]); count >= 1.
template <class Read>
METANICHE_BOTH float complex_of(const Read& x, const i32* genes, i64 count, bool geometric) {
    double value = x(genes[0]);
    for (i64 s = 1; s < count; ++s) {
        const double other = x(genes[s]);
        if (geometric) value *= other;
        else value = other < value || other != other ? other : value;
    }
    if (geometric && count > 1) value = pow(value, 1.0 / double(count));
    return float(value);
}

}  // namespace metaniche
