// Unbalanced transport in its scaling form: plan = u K v, and every cell keeps the slack u * exp(-rho / eps).
#pragma once
#include "common/types.h"

namespace metaniche {

// u = scaling * mass: the plan's row sum and the slack together are the mass exactly.
METANICHE_BOTH double scaling(double reached, double slack) { return 1.0 / (reached + slack); }

// The Hessian of the dual after the senders' side is eliminated, times x: total * x - v * sum_j K u_j h_j, where
// h_j = scaling_j * sum_i K v_i x_i averages x over what j sends.
METANICHE_BOTH double curvature(double total, double x, double v, double averaged) { return total * x - v * averaged; }

// How far x may go along `step` until it leaves [-radius, radius].
METANICHE_BOTH double room(double x, double step, double radius) {
    const double left = step > 0 ? radius - x : radius + x, size = step > 0 ? step : -step;
    return left < size * 1e300 ? left / size : 1e300;
}

}  // namespace metaniche
