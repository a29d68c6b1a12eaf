// Sums over edges x genes for spatial autocorrelation: one row's lag of a block of genes is all that is ever held.
#include <algorithm>
#include <vector>

#include "common/autocorrelation.h"
#include "cpu/arrays.h"
#include "cpu/guarded.h"
#include "cpu/tile.h"

namespace metaniche {
namespace {

constexpr i64 GENES = Tile<float>::COLUMNS;  // genes whose lag stays in registers
constexpr i64 CHUNKS = 64;                   // of rows; fixed, so that a sum has the same bits for any number of threads

struct Chunk {
    i64 first, last;
    Chunk(i64 c, i64 rows) : first(c * rows / CHUNKS), last((c + 1) * rows / CHUNKS) {}
};

// (rows, genes) values, and their means.
template <class T>
struct Columns {
    const T* values;
    i64 rows, genes;
    std::vector<T> mean;

    explicit Columns(const In<T, 2>& x) : values(x.data()), rows(i64(x.shape(0))), genes(i64(x.shape(1))), mean(genes) {
        std::vector<double> parts(CHUNKS * genes, 0.0);
#pragma omp parallel for schedule(dynamic, 1)
        for (i64 c = 0; c < CHUNKS; ++c)
            for (i64 row = Chunk(c, rows).first; row < Chunk(c, rows).last; ++row)
                for (i64 g = 0; g < genes; ++g) parts[c * genes + g] += at(row)[g];
        for (i64 g = 0; g < genes; ++g) {
            double sum = 0;
            for (i64 c = 0; c < CHUNKS; ++c) sum += parts[c * genes + g];
            mean[g] = T(sum / double(rows));
        }
    }
    const T* at(i64 row) const { return values + row * genes; }
};

// lag[0:n] = sum_j w_ij (x_j - mean) over the genes first..first + n.
template <class T>
void lag_of(const Columns<T>& x, const Csr& graph, const T* weight, i64 row, i64 first, i64 n, T* lag) {
    const T* mean = x.mean.data() + first;
    const i64 begin = graph.indptr[row], end = graph.indptr[row + 1];
    const auto tile = [&](i64 g, auto sum) {
        const decltype(sum) origin(mean + g);
        for (i64 e = begin; e < end; ++e) sum.add_deviation(weight[e], x.at(graph.indices[e]) + first + g, origin);
        sum.store(lag + g);
    };
    in_tiles<T>(n, tile, [&](i64 rest) {
        std::fill(lag + rest, lag + n, T(0));
        for (i64 e = begin; e < end; ++e) {
            const T* neighbour = x.at(graph.indices[e]) + first;
            for (i64 g = rest; g < n; ++g) lag[g] += weight[e] * (neighbour[g] - mean[g]);
        }
    });
}

// OUTPUT sums (G, 4): SpatialSums of every gene; `degree` is w_i. + w_.i of every cell.
template <class T>
void autocorrelation_sums(In<T, 2> x, In<i64, 1> indptr, In<i32, 1> indices, In<T, 1> weight, In<double, 1> degree,
                          Out<double, 2> sums) {
    const Csr graph(indptr, indices);
    nb::gil_scoped_release release;
    const Columns<T> columns(x);
    const i64 blocks = (columns.genes + GENES - 1) / GENES;
    std::vector<SpatialSums> parts(CHUNKS * columns.genes, SpatialSums{});
#pragma omp parallel for schedule(dynamic, 1)
    for (i64 task = 0; task < CHUNKS * blocks; ++task) {
        const i64 first = task % blocks * GENES, n = std::min(GENES, columns.genes - first), c = task / blocks;
        const Chunk rows(c, columns.rows);
        T lag[GENES];
        SpatialSums own[GENES] = {};
        for (i64 row = rows.first; row < rows.last; ++row) {
            lag_of(columns, graph, weight.data(), row, first, n, lag);
            for (i64 g = 0; g < n; ++g)
                add_cell(own[g], double(columns.at(row)[first + g] - columns.mean[first + g]), lag[g], degree.data()[row]);
        }
        std::copy(own, own + n, parts.begin() + c * columns.genes + first);
    }
    for (i64 g = 0; g < columns.genes; ++g) {
        double* out = sums.data() + 4 * g;
        std::fill(out, out + 4, 0.0);
        for (i64 c = 0; c < CHUNKS; ++c) {
            const SpatialSums& part = parts[c * columns.genes + g];
            out[0] += part.cross;
            out[1] += part.around;
            out[2] += part.squares;
            out[3] += part.fourths;
        }
    }
}

// OUTPUT cross (P,): sum_i y_i lag_i of each pair (column of x, column of y); lags (A, 3): sums of the lag, of its
// square and of x's squared deviation; squares (B,): of y's squared deviation.
template <class T>
void bivariate_sums(In<T, 2> x, In<T, 2> y, In<i32, 2> pairs, In<i64, 1> indptr, In<i32, 1> indices, In<T, 1> weight,
                    Out<double, 1> cross, Out<double, 2> lags, Out<double, 1> squares) {
    const Csr graph(indptr, indices);
    nb::gil_scoped_release release;
    const Columns<T> from(x), to(y);
    const i64 n_pairs = i64(pairs.shape(0)), width = n_pairs + 3 * from.genes + to.genes;
    std::vector<double> parts(CHUNKS * width, 0.0);
    Guarded guarded;
#pragma omp parallel for schedule(dynamic, 1)
    for (i64 c = 0; c < CHUNKS; ++c) {
        const Chunk rows(c, from.rows);
        std::vector<T> lag, z;
        guarded([&] {
            lag.resize(from.genes);
            z.resize(to.genes);
        });
        if (guarded.failed()) continue;
        double *product = parts.data() + c * width, *of_lag = product + n_pairs, *of_y = of_lag + 3 * from.genes;
        for (i64 row = rows.first; row < rows.last; ++row) {
            for (i64 g = 0; g < from.genes; g += GENES)
                lag_of(from, graph, weight.data(), row, g, std::min(GENES, from.genes - g), lag.data() + g);
            for (i64 g = 0; g < from.genes; ++g) {
                const double deviation = double(from.at(row)[g] - from.mean[g]);
                of_lag[3 * g] += lag[g];
                of_lag[3 * g + 1] += double(lag[g]) * double(lag[g]);
                of_lag[3 * g + 2] += deviation * deviation;
            }
            for (i64 g = 0; g < to.genes; ++g) {
                z[g] = to.at(row)[g] - to.mean[g];
                of_y[g] += double(z[g]) * double(z[g]);
            }
            for (i64 p = 0; p < n_pairs; ++p)
                product[p] += double(lag[pairs.data()[2 * p]]) * double(z[pairs.data()[2 * p + 1]]);
        }
    }
    guarded.rethrow();
    const auto total = [&](i64 offset, i64 n, double* out) {
        std::fill(out, out + n, 0.0);
        for (i64 c = 0; c < CHUNKS; ++c)
            for (i64 k = 0; k < n; ++k) out[k] += parts[c * width + offset + k];
    };
    total(0, n_pairs, cross.data());
    total(n_pairs, 3 * from.genes, lags.data());
    total(n_pairs + 3 * from.genes, to.genes, squares.data());
}

}  // namespace

// One name for float32 and float64: nanobind chooses by dtype.
void add_autocorrelation(nb::module_& m) {
    def(m, "autocorrelation_sums", &autocorrelation_sums<float>);
    def(m, "autocorrelation_sums", &autocorrelation_sums<double>);
    def(m, "bivariate_sums", &bivariate_sums<float>);
    def(m, "bivariate_sums", &bivariate_sums<double>);
}

}  // namespace metaniche
