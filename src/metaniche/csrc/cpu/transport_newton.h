// Truncated Newton on the dual of one transport problem, along a path of growing penalties.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/transport.h"
#include "cpu/transport_problem.h"

namespace metaniche {

// Work below which a second thread costs more than it brings.
constexpr i64 WORTH_THREADS = i64(1) << 17;

// Rows are added in blocks of one size, so that a sum has the same bits for any number of threads: `range(first, last)`
// adds up a block. `work` is the number of edges or entries that all rows have together.
template <class Sum, class Range>
Sum sum_over(i64 rows, i64 block, i64 work, Range&& range) {
    Sum total{};
    const auto add = [&](i64 b) { return range(b * block, std::min(rows, (b + 1) * block)); };
    const i64 blocks = (rows + block - 1) / block;
    if (work <= WORTH_THREADS) {
        for (i64 b = 0; b < blocks; ++b) total += add(b);
        return total;
    }
    std::vector<Sum> parts(blocks);
#pragma omp parallel for schedule(static)
    for (i64 b = 0; b < blocks; ++b) parts[b] = add(b);
    for (const Sum& part : parts) total += part;
    return total;
}

// The dual is maximised over beta = log v; u follows from v, so the senders' marginals always hold. The penalty
// rho / eps grows from 2 to its value: the potentials are piecewise linear in it but for a smooth corner at every
// change of who is in excess, so a straight line through the last two solutions is a good start for the next.
// Sinkhorn's own iteration, also with Anderson acceleration, takes thousands of products for the last digits here or
// stalls on the way; both cost one product a turn, as a step of conjugate gradients does.
class Newton {
public:
    double residual = 0;  // sum of |marginal - total| over the receivers
    double demand = 0;
    i64 products = 0;  // kernel products, forth and back
    std::vector<double> beta, log_u;

    Newton(const Problem& p, double penalty, double tolerance, i64 max_iter)
        : to(p.senders), from(p.receivers), b(p.receivers.mass), now(p), trial(p) {
        beta.assign(b.size(), 0.0);
        for (const double mass : b) demand += mass;
        for (auto* x : {&x_, &r_, &p_, &q_, &inverse_}) x->resize(b.size());
        reached_.resize(to.own.size);
        weight_.resize(to.own.size);
        back_.resize(to.partner.size);
        forth_.resize(from.partner.size);
        follow(penalty, tolerance, max_iter);
        log_u.resize(to.own.size);
        for (size_t k = 0; k < log_u.size(); ++k) log_u[k] = std::log(to.mass[k]) + std::log(now.g[k]);
    }

private:
    static constexpr i64 ROWS = 64, ENTRIES = 2048;
    static constexpr double GROWTH = 1.3;   // of the penalty, from one solution to the next
    static constexpr double MIDWAY = 1e-4;  // tolerance before the last penalty

    // Everything that follows from beta.
    struct State {
        std::vector<double> v, g, total;
        double dual = 0, missing = 0;
        explicit State(const Problem& p)
            : v(p.receivers.own.size), g(p.senders.own.size), total(p.receivers.own.size) {}
    };

    const Side &to, &from;
    const std::vector<double>& b;
    State now, trial;
    double slack = 0;
    std::vector<double> x_, r_, p_, q_, inverse_, reached_, weight_, back_, forth_;

    void evaluate(const std::vector<double>& at, State& s) {
        ++products;
        const double unmoved = sum_over<double>(from.rows(), ROWS, from.edges(), [&](i64 first, i64 last) {
            double sum = 0;
            for (i64 k = from.begin(first); k < from.begin(last); ++k) {
                s.v[k] = std::exp(at[k]);
                sum += b[k] * at[k] - slack * s.v[k];
            }
            for (i64 row = first; row < last; ++row) from.spread(row, s.v.data(), forth_.data());
            return sum;
        });
        const double supplied = sum_over<double>(to.rows(), ROWS, to.edges(), [&](i64 first, i64 last) {
            for (i64 row = first; row < last; ++row) gather(to, from, forth_.data(), row, reached_.data());
            double sum = 0;
            for (i64 k = to.begin(first); k < to.begin(last); ++k) {
                s.g[k] = scaling(reached_[k], slack);
                weight_[k] = to.mass[k] * s.g[k];
                sum += to.mass[k] * std::log(s.g[k]);
            }
            for (i64 row = first; row < last; ++row) to.spread(row, weight_.data(), back_.data());
            return sum;
        });
        s.dual = unmoved + supplied;
        s.missing = sum_over<double>(from.rows(), ROWS, from.edges(), [&](i64 first, i64 last) {
            for (i64 row = first; row < last; ++row) gather(from, to, back_.data(), row, q_.data());
            double sum = 0;
            for (i64 k = from.begin(first); k < from.begin(last); ++k) {
                s.total[k] = s.v[k] * (q_[k] + slack);
                sum += std::abs(b[k] - s.total[k]);
            }
            return sum;
        });
    }

    // q = Hessian * p; returns p . q.
    double apply() {
        ++products;
        std::vector<double>& vp = q_;
        sum_over<double>(from.rows(), ROWS, from.edges(), [&](i64 first, i64 last) {
            for (i64 k = from.begin(first); k < from.begin(last); ++k) vp[k] = now.v[k] * p_[k];
            for (i64 row = first; row < last; ++row) from.spread(row, vp.data(), forth_.data());
            return 0.0;
        });
        sum_over<double>(to.rows(), ROWS, to.edges(), [&](i64 first, i64 last) {
            for (i64 row = first; row < last; ++row) gather(to, from, forth_.data(), row, reached_.data());
            for (i64 k = to.begin(first); k < to.begin(last); ++k)
                weight_[k] = to.mass[k] * now.g[k] * (now.g[k] * reached_[k]);
            for (i64 row = first; row < last; ++row) to.spread(row, weight_.data(), back_.data());
            return 0.0;
        });
        return sum_over<double>(from.rows(), ROWS, from.edges(), [&](i64 first, i64 last) {
            for (i64 row = first; row < last; ++row) gather(from, to, back_.data(), row, q_.data());
            double sum = 0;
            for (i64 k = from.begin(first); k < from.begin(last); ++k) {
                q_[k] = curvature(now.total[k], p_[k], now.v[k], q_[k]);
                sum += p_[k] * q_[k];
            }
            return sum;
        });
    }

    // Steihaug's conjugate gradients: x = Newton's step, or where it leaves the box of half side `radius`.
    // Returns the gain that the quadratic model predicts.
    double step(double radius, double forcing, i64 most) {
        const i64 n = i64(b.size());
        double rz = sum_over<double>(n, ENTRIES, n, [&](i64 first, i64 last) {
            double sum = 0;
            for (i64 k = first; k < last; ++k) {
                x_[k] = 0;
                r_[k] = b[k] - now.total[k];
                inverse_[k] = 1 / now.total[k];
                p_[k] = r_[k] * inverse_[k];
                sum += r_[k] * p_[k];
            }
            return sum;
        });
        const double enough = forcing * forcing * rz;
        double gain = 0;
        for (i64 turn = 0; turn < most && rz > enough; ++turn) {
            const double pq = apply();
            const bool leaves = !(pq > 0) || longest(rz / pq) > radius;
            const double t = leaves ? box(radius) : rz / pq;
            gain += t * rz - 0.5 * t * t * std::max(pq, 0.0);
            const double next = advance(t);
            if (leaves) break;
            const double turned = next / rz;
            rz = next;
            for (i64 k = 0; k < n; ++k) p_[k] = r_[k] * inverse_[k] + turned * p_[k];
        }
        return gain;
    }

    // x += t p, r -= t q; returns r's square in the norm of the preconditioner.
    double advance(double t) {
        const i64 n = i64(b.size());
        return sum_over<double>(n, ENTRIES, n, [&](i64 first, i64 last) {
            double sum = 0, *x = x_.data(), *r = r_.data();
            const double *p = p_.data(), *q = q_.data(), *inverse = inverse_.data();
#pragma omp simd reduction(+ : sum)
            for (i64 k = first; k < last; ++k) {
                x[k] += t * p[k];
                r[k] -= t * q[k];
                sum += r[k] * r[k] * inverse[k];
            }
            return sum;
        });
    }

    // Largest |x + t p|.
    double longest(double t) const {
        double most = 0;
        const double *x = x_.data(), *p = p_.data();
#pragma omp simd reduction(max : most)
        for (size_t k = 0; k < x_.size(); ++k) most = std::max(most, std::abs(x[k] + t * p[k]));
        return most;
    }

    double box(double radius) const {
        double least = std::numeric_limits<double>::infinity();
        for (size_t k = 0; k < x_.size(); ++k) least = std::min(least, room(x_[k], p_[k], radius));
        return least;
    }

    // Maximises the dual at one penalty from the present beta.
    void maximise(double penalty, double tolerance, i64 last_product) {
        slack = std::exp(-penalty);
        evaluate(beta, now);
        double radius = 5;
        std::vector<double> there(beta.size());
        while (now.missing > tolerance * demand && products < last_product) {
            const double forcing = std::min(0.3, std::sqrt(now.missing / demand));
            const double gain = step(radius, forcing, last_product - products);
            const double length = longest(0);
            for (size_t k = 0; k < beta.size(); ++k) there[k] = beta[k] + x_[k];
            evaluate(there, trial);
            // Below the rounding of the dual a ratio says nothing: the model is then right.
            const bool noise = gain < 1e-13 * std::abs(now.dual);
            const double ratio = noise ? 1.0 : (trial.dual - now.dual) / gain;
            if (!(ratio > 0.1)) radius = std::min(radius, length) * 0.3;
            if (ratio > 0.7 && length > 0.9 * radius) radius *= 2;
            if (ratio > 1e-3) {
                beta.swap(there);
                std::swap(now, trial);
            }
            // One step of Sinkhorn never lowers the dual and smooths what the model got wrong.
            for (size_t k = 0; k < beta.size(); ++k) beta[k] += std::log(b[k] / now.total[k]);
            evaluate(beta, now);
        }
    }

    void follow(double penalty, double tolerance, i64 max_iter) {
        std::vector<double> before, last;
        double at_before = 0, at_last = 0;
        for (double at = std::min(2.0, penalty);; at = at * GROWTH < 0.9 * penalty ? at * GROWTH : penalty) {
            if (!before.empty())
                for (size_t k = 0; k < beta.size(); ++k)
                    beta[k] += (last[k] - before[k]) * (at - at_last) / (at_last - at_before);
            const bool end = at == penalty;
            maximise(at, end ? tolerance : std::max(tolerance, MIDWAY), end ? max_iter : products + max_iter / 32);
            if (end) break;
            before.swap(last);
            last = beta;
            at_before = at_last;
            at_last = at;
        }
        residual = now.missing;
    }
};

}  // namespace metaniche
