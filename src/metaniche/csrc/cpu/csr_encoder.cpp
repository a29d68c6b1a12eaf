// Sparse expression times dense weights: panels of genes stay in the cache while a block of cells passes over them.
#include <algorithm>
#include <vector>

#include "cpu/arrays.h"
#include "cpu/tile.h"

namespace metaniche {
namespace {

constexpr i64 PANEL = i64(1) << 18;  // bytes of weights that stay in the cache
constexpr i64 ROWS_A_BLOCK = 256;

template <class T>
struct Expression {
    const i64* indptr;
    const i32* genes;
    const T* values;
    i64 rows;
};

// First entry of [k, last) whose gene is not below `gene`; genes ascend within a row.
i64 skip_to(const i32* genes, i64 k, i64 last, i64 gene) {
    return std::lower_bound(genes + k, genes + last, gene, [](i32 g, i64 limit) { return g < limit; }) - genes;
}

// out[0:n] += sum_k values[k] * w[genes[k], 0:n], n at most a tile; rows of w are `stride` apart.
template <class T>
void add_rows(const Expression<T>& x, i64 k, i64 last, const T* w, i64 stride, T* out, i64 n) {
    const auto tile = [&](i64 first, auto sum) {
        sum = decltype(sum)(out + first);
        for (i64 at = k; at < last; ++at) sum.add(x.values[at], w + i64(x.genes[at]) * stride + first);
        sum.store(out + first);
    };
    in_tiles<T>(n, tile, [&](i64 first) {
        for (i64 at = k; at < last; ++at) {
            const T* row = w + i64(x.genes[at]) * stride;
            for (i64 c = first; c < n; ++c) out[c] += x.values[at] * row[c];
        }
    });
}

// Visits every row's entries one panel of genes after the other, a block of rows at a time: visit(row, k, last).
template <class T, class Visit>
void each_by_panel(const Expression<T>& x, i64 n_genes, i64 width, Visit&& visit) {
    const i64 panel = std::max<i64>(1, PANEL / std::max<i64>(1, width * i64(sizeof(T))));
    const i64 blocks = (x.rows + ROWS_A_BLOCK - 1) / ROWS_A_BLOCK;
#pragma omp parallel for schedule(dynamic, 1)
    for (i64 b = 0; b < blocks; ++b) {
        const i64 first = b * ROWS_A_BLOCK, last = std::min(x.rows, first + ROWS_A_BLOCK);
        i64 at[ROWS_A_BLOCK];
        std::copy(x.indptr + first, x.indptr + last, at);
        for (i64 gene = 0; gene < n_genes; gene += panel)
            for (i64 row = first; row < last; ++row) {
                i64 end = at[row - first];
                while (end < x.indptr[row + 1] && x.genes[end] < gene + panel) ++end;
                if (at[row - first] < end) visit(row, at[row - first], end);
                at[row - first] = end;
            }
    }
}

template <class T>
void forward(const Expression<T>& x, const T* w, i64 n_genes, i64 width, T* out) {
    std::fill(out, out + x.rows * width, T(0));
    each_by_panel(x, n_genes, width, [&](i64 row, i64 k, i64 end) {
        for (i64 c = 0; c < width; c += Tile<T>::COLUMNS)
            add_rows(x, k, end, w + c, width, out + row * width + c, std::min(Tile<T>::COLUMNS, width - c));
    });
}

// A task owns a panel of genes and passes over all rows in order: one order for every sum.
template <class T>
void weight_gradient(const Expression<T>& x, const T* grad, i64 n_genes, i64 width, T* out) {
    const i64 fitting = 2 * PANEL / std::max<i64>(1, width * i64(sizeof(T)));
    const i64 panel = std::clamp<i64>(fitting, 1, std::max<i64>(1, (n_genes + 15) / 16));
    const i64 panels = (n_genes + panel - 1) / panel;
#pragma omp parallel for schedule(dynamic, 1)
    for (i64 task = 0; task < panels; ++task) {
        const i64 low = task * panel, high = std::min(n_genes, low + panel);
        std::fill(out + low * width, out + high * width, T(0));
        for (i64 row = 0; row < x.rows; ++row) {
            const T* g = grad + row * width;
            const i64 last = x.indptr[row + 1];
            for (i64 k = skip_to(x.genes, x.indptr[row], last, low); k < last && x.genes[k] < high; ++k) {
                const T value = x.values[k];
                T* o = out + i64(x.genes[k]) * width;
#pragma omp simd
                for (i64 c = 0; c < width; ++c) o[c] += value * g[c];
            }
        }
    }
}

template <class T>
void values_gradient(const Expression<T>& x, const T* w, const T* grad, i64 n_genes, i64 width, T* out) {
    each_by_panel(x, n_genes, width, [&](i64 row, i64 k, i64 end) {
        for (; k < end; ++k) {
            const T *a = grad + row * width, *b = w + i64(x.genes[k]) * width;
            T sum = 0;
#pragma omp simd reduction(+ : sum)
            for (i64 c = 0; c < width; ++c) sum += a[c] * b[c];
            out[k] = sum;
        }
    });
}

template <class T>
Expression<T> expression(const In<i64, 1>& indptr, const In<i32, 1>& genes, const In<T, 1>& values) {
    return {indptr.data(), genes.data(), values.data(), i64(indptr.shape(0)) - 1};
}

template <class T>
void csr_encoder(In<i64, 1> indptr, In<i32, 1> genes, In<T, 1> values, In<T, 2> weight, Out<T, 2> out) {
    nb::gil_scoped_release release;
    forward(expression<T>(indptr, genes, values), weight.data(), i64(weight.shape(0)), i64(weight.shape(1)), out.data());
}

template <class T>
void csr_encoder_weight_gradient(In<i64, 1> indptr, In<i32, 1> genes, In<T, 1> values, In<T, 2> grad, Out<T, 2> out) {
    nb::gil_scoped_release release;
    weight_gradient(expression<T>(indptr, genes, values), grad.data(), i64(out.shape(0)), i64(out.shape(1)), out.data());
}

template <class T>
void csr_encoder_values_gradient(In<i64, 1> indptr, In<i32, 1> genes, In<T, 2> weight, In<T, 2> grad, Out<T, 1> out) {
    nb::gil_scoped_release release;
    const Expression<T> x{indptr.data(), genes.data(), nullptr, i64(indptr.shape(0)) - 1};
    values_gradient(x, weight.data(), grad.data(), i64(weight.shape(0)), i64(weight.shape(1)), out.data());
}

// Where the first row stands whose genes leave [0, n_genes) or do not ascend, or -1.
i64 csr_encoder_first_bad_row(In<i64, 1> indptr, In<i32, 1> genes, i64 n_genes) {
    const i64 rows = i64(indptr.shape(0)) - 1;
    i64 bad = rows;
    nb::gil_scoped_release release;
#pragma omp parallel for schedule(static) reduction(min : bad)
    for (i64 row = 0; row < rows; ++row) {
        i64 least = 0;
        bool fine = true;
        for (i64 k = indptr.data()[row]; k < indptr.data()[row + 1]; ++k) {
            const i64 gene = genes.data()[k];
            fine &= gene >= least && gene < n_genes;
            least = gene;
        }
        if (!fine) bad = std::min(bad, row);
    }
    return bad == rows ? -1 : bad;
}

}  // namespace

// One name for float32 and float64: nanobind chooses by dtype.
void add_csr_encoder(nb::module_& m) {
    def(m, "csr_encoder", &csr_encoder<float>);
    def(m, "csr_encoder", &csr_encoder<double>);
    def(m, "csr_encoder_weight_gradient", &csr_encoder_weight_gradient<float>);
    def(m, "csr_encoder_weight_gradient", &csr_encoder_weight_gradient<double>);
    def(m, "csr_encoder_values_gradient", &csr_encoder_values_gradient<float>);
    def(m, "csr_encoder_values_gradient", &csr_encoder_values_gradient<double>);
    def(m, "csr_encoder_first_bad_row", &csr_encoder_first_bad_row);
}

}  // namespace metaniche
