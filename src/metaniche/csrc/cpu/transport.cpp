// Collective unbalanced transport over the edges of a graph: the plan is never stored, only its two scalings.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "cpu/arrays.h"
#include "cpu/guarded.h"
#include "cpu/transport_islands.h"
#include "cpu/transport_newton.h"

namespace metaniche {
namespace {

std::vector<Group> groups(const In<i32, 2>& pairs, const In<i32, 1>& group_of, i64 count) {
    std::vector<Group> all(count);
    const auto position = [](std::vector<i32>& list, i32 id) {
        const auto found = std::find(list.begin(), list.end(), id);
        if (found != list.end()) return i32(found - list.begin());
        list.push_back(id);
        return i32(list.size()) - 1;
    };
    for (size_t p = 0; p < pairs.shape(0); ++p) {
        Group& g = all[group_of.data()[p]];
        const i32 l = position(g.ligands, pairs.data()[2 * p]), r = position(g.receptors, pairs.data()[2 * p + 1]);
        g.receptors_of.resize(g.ligands.size());
        g.ligands_of.resize(g.receptors.size());
        g.receptors_of[l].push_back(r);
        g.ligands_of[r].push_back(l);
    }
    return all;
}

// Where the scalings of one group's cells go.
struct Output {
    const std::vector<i32>& columns;
    double* values;
    i64 width;
    void store(const Side& side, const double* x) const {
        for (i64 row = 0; row < side.rows(); ++row)
            side.own.each(row, [&](i64 c, i64 at) { values[side.cells[row] * width + columns[c]] = x[at]; });
    }
    // Mass that cannot move is all slack.
    void store_unmoved(const Side& side, double penalty) const {
        std::vector<double> x(side.mass.size());
        std::transform(side.mass.begin(), side.mass.end(), x.begin(), [&](double m) { return std::log(m) + penalty; });
        store(side, x.data());
    }
};

struct Limits {
    double penalty, tolerance;
    i64 max_iter, most_links;  // an island with more links than that has a row per cell
};

struct Effort {
    i64 products = 0;
    double missing = 0;
};

Effort solve(const Problem& whole, const Output& u, const Output& v, Limits limits) {
    u.store_unmoved(whole.senders, limits.penalty);
    v.store_unmoved(whole.receivers, limits.penalty);
    const Islands islands(whole);
    std::vector<Effort> efforts(islands.count());
    const auto solve_island = [&](i64 k) {
        const Problem problem = islands.links(k) > limits.most_links ? islands.by_cell(k) : islands.by_mass(k);
        const Newton solved(problem, limits.penalty, limits.tolerance, limits.max_iter);
        u.store(problem.senders, solved.log_u.data());
        v.store(problem.receivers, solved.beta.data());
        efforts[k] = {solved.products, solved.residual};
    };
    // A small island has one thread, a large one all.
    std::vector<i64> large;
    for (i64 k = 0; k < islands.count(); ++k)
        if (islands.links(k) > WORTH_THREADS) large.push_back(k);
    Guarded guarded;
#pragma omp parallel for schedule(dynamic, 16)
    for (i64 k = 0; k < islands.count(); ++k)
        if (!std::binary_search(large.begin(), large.end(), k)) guarded([&] { solve_island(k); });
    guarded.rethrow();
    for (const i64 k : large) solve_island(k);
    Effort all;
    for (const Effort& effort : efforts) {
        all.products = std::max(all.products, effort.products);
        all.missing += effort.missing;
    }
    return all;
}

// OUTPUT: log_u (N, L), log_v (N, R) where there is mass, and per sample and group of pairs the number of kernel
// products, the missing mass of the receivers and their demand.
void transport_solve(In<double, 2> ligand, In<double, 2> receptor, In<i32, 2> pairs, In<i32, 1> group_of,
                     In<i64, 1> sample_ptr, In<i64, 1> indptr, In<i32, 1> indices, In<double, 1> kernel,
                     double penalty, double tolerance, i64 max_iter, i64 most_links, Out<double, 2> log_u,
                     Out<double, 2> log_v, Out<i64, 2> products, Out<double, 2> missing, Out<double, 2> demand) {
    const Csr graph(indptr, indices);
    const Masses a{ligand.data(), i64(ligand.shape(1))}, b{receptor.data(), i64(receptor.shape(1))};
    const i64 count = i64(products.shape(1)), tasks = i64(products.shape(0)) * count;
    nb::gil_scoped_release release;
    const std::vector<Group> all = groups(pairs, group_of, count);
    const auto run = [&](i64 task) {
        const Group& group = all[task % count];
        const i64* sample = sample_ptr.data() + task / count;
        const Problem whole(group, a, b, graph, kernel.data(), sample[0], sample[1]);
        const Effort effort = solve(whole, {group.ligands, log_u.data(), a.width},
                                    {group.receptors, log_v.data(), b.width}, {penalty, tolerance, max_iter, most_links});
        products.data()[task] = effort.products;
        missing.data()[task] = effort.missing;
        demand.data()[task] = std::accumulate(whole.receivers.mass.begin(), whole.receivers.mass.end(), 0.0);
    };
    // Many tasks: one a thread; few: the islands of each in parallel. A nested parallel region has one thread.
    const bool many = tasks >= 2 * omp_get_max_threads();
    Guarded guarded;
#pragma omp parallel for schedule(dynamic, 1) if (many)
    for (i64 task = 0; task < tasks; ++task) guarded([&] { run(task); });
    guarded.rethrow();
}

// OUTPUT (rows, P): the sums over each row of the plans u[row] * kernel * v[neighbour]; `row_column` and
// `other_column` name the columns of u and v for each pair.
void transport_amounts(In<double, 2> u, In<double, 2> v, In<i32, 1> row_column, In<i32, 1> other_column,
                       In<i64, 1> indptr, In<i32, 1> indices, In<double, 1> kernel, Out<double, 2> amounts) {
    const Csr graph(indptr, indices);
    const i64 n_pairs = i64(row_column.shape(0)), u_width = i64(u.shape(1)), v_width = i64(v.shape(1));
    nb::gil_scoped_release release;
    Guarded guarded;
#pragma omp parallel
    {
        std::vector<i32> active;
        guarded([&] { active.resize(n_pairs); });
#pragma omp for schedule(dynamic, 64)
        for (i64 row = 0; row < graph.rows; ++row) {
            if (guarded.failed()) continue;
            const double* u_row = u.data() + row * u_width;
            double* out = amounts.data() + row * n_pairs;
            i64 n_active = 0;
            for (i64 p = 0; p < n_pairs; ++p) {
                out[p] = 0;
                if (u_row[row_column.data()[p]] > 0) active[n_active++] = i32(p);
            }
            for (i64 e = graph.indptr[row]; e < graph.indptr[row + 1]; ++e) {
                const double* v_row = v.data() + i64(graph.indices[e]) * v_width;
                for (i64 k = 0; k < n_active; ++k)
                    out[active[k]] += kernel.data()[e] * v_row[other_column.data()[active[k]]];
            }
            for (i64 k = 0; k < n_active; ++k) out[active[k]] *= u_row[row_column.data()[active[k]]];
        }
    }
    guarded.rethrow();
}

}  // namespace

void add_transport(nb::module_& m) {
    def(m, "transport_solve", &transport_solve);
    def(m, "transport_amounts", &transport_amounts);
}

}  // namespace metaniche
