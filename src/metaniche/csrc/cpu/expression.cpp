// Complexes of every cell, dense or CSR as the expression is.
#include "cpu/expression.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/complex.h"
#include "cpu/arrays.h"
#include "cpu/guarded.h"

namespace metaniche {
namespace {

struct Complexes {
    const i64* ptr;
    const i32* genes;
    i64 count;
    bool geometric;
    float of(const float* x, i64 c) const {
        return complex_of([x](i32 gene) { return x[gene]; }, genes + ptr[c], ptr[c + 1] - ptr[c], geometric);
    }
};

// visit(row, x) with the row's expression laid out over all genes.
template <class Visit>
void each_row(const Expression<float>& cells, Visit&& visit) {
    Guarded guarded;
#pragma omp parallel
    {
        std::vector<float> x;
        guarded([&] { x.assign(cells.width, 0.0f); });
#pragma omp for schedule(static)
        for (i64 i = 0; i < cells.rows; ++i) {
            if (guarded.failed()) continue;
            cells.each(i, [&](i32 gene, float value) { x[gene] = value; });
            visit(i, x.data());
            cells.each(i, [&](i32 gene, float) { x[gene] = 0.0f; });
        }
    }
    guarded.rethrow();
}

}  // namespace

void add_expression(nb::module_& m) {
    def(m, "complex_dense", +[](In<float, 2> x, In<i64, 1> ptr, In<i32, 1> genes, bool geometric, Out<float, 2> out) {
        const Complexes complexes{ptr.data(), genes.data(), i64(out.shape(1)), geometric};
        const i64 n = i64(x.shape(0)), width = i64(x.shape(1));
        nb::gil_scoped_release release;
#pragma omp parallel for schedule(static)
        for (i64 i = 0; i < n; ++i)
            for (i64 c = 0; c < complexes.count; ++c)
                out.data()[i * complexes.count + c] = complexes.of(x.data() + i * width, c);
    });
    def(m, "complex_counts", +[](nb::tuple x, In<i64, 1> ptr, In<i32, 1> genes, bool geometric, Out<i64, 1> counts) {
        const Expression<float> cells(x);
        const Complexes complexes{ptr.data(), genes.data(), i64(ptr.shape(0)) - 1, geometric};
        nb::gil_scoped_release release;
        each_row(cells, [&](i64 i, const float* row) {
            i64 count = 0;
            for (i64 c = 0; c < complexes.count; ++c) count += complexes.of(row, c) != 0.0f;
            counts.data()[i] = count;
        });
    });
    def(m, "complex_fill", +[](nb::tuple x, In<i64, 1> ptr, In<i32, 1> genes, bool geometric, In<i64, 1> out_ptr,
                             Out<i32, 1> columns, Out<float, 1> values) {
        const Expression<float> cells(x);
        const Complexes complexes{ptr.data(), genes.data(), i64(ptr.shape(0)) - 1, geometric};
        nb::gil_scoped_release release;
        each_row(cells, [&](i64 i, const float* row) {
            i64 at = out_ptr.data()[i];
            for (i64 c = 0; c < complexes.count; ++c)
                if (const float value = complexes.of(row, c); value != 0.0f) {
                    columns.data()[at] = i32(c);
                    values.data()[at++] = value;
                }
        });
    });
}

}  // namespace metaniche
