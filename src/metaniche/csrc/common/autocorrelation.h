// The sums over cells that Moran's I and Geary's C are made of.
#pragma once
#include "common/types.h"

namespace metaniche {

// Of one gene: sum_ij w_ij z_i z_j, sum_i (w_i. + w_.i) z_i^2, sum z^2 and sum z^4, z the deviation from the mean.
struct SpatialSums {
    double cross, around, squares, fourths;
};

// One cell's share; `lag` is sum_j w_ij z_j and `degree` w_i. + w_.i.
METANICHE_BOTH void add_cell(SpatialSums& sums, double z, double lag, double degree) {
    const double square = z * z;
    sums.cross += z * lag;
    sums.around += degree * square;
    sums.squares += square;
    sums.fourths += square * square;
}

}  // namespace metaniche
