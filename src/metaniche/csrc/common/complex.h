// Expression of a complex from that of its subunits. A host compiler takes pow from <cmath>, which its sources
// include before.
#pragma once
#include "common/types.h"

namespace metaniche {

// The minimum or the geometric mean of x(genes[0]), ..., x(genes[count - 1]); count >= 1.
template <class Read>
METANICHE_BOTH float complex_of(const Read& x, const i32* genes, i64 count, bool geometric) {
    if (!geometric) {
        float least = x(genes[0]);
        for (i64 s = 1; s < count; ++s) {
            const float other = x(genes[s]);
            least = other < least || other != other ? other : least;
        }
        return least;
    }
    double product = x(genes[0]);
    for (i64 s = 1; s < count; ++s) product *= double(x(genes[s]));
    return float(count > 1 ? pow(product, 1.0 / double(count)) : product);
}

}  // namespace metaniche
