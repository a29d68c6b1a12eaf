// Null distribution of cluster means under permutation of the labels: moments of expression, exact permutations.
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/shuffle.h"
#include "cpu/arrays.h"
#include "cpu/expression.h"
#include "cpu/sum_rows.h"

namespace metaniche {
namespace {

using i16 = short;
using u16 = unsigned short;

// Permutations that share one pass over the cells, and genes of one pass: their sums stay in the first-level cache.
constexpr i64 PERMUTATIONS = 8, GENES = 32;
// Cells after which 32-bit sums of 16-bit values must be emptied.
constexpr i64 CELLS_A_FLUSH = 65536;

// (P, 3) sums over cells of x y, x^2 y and x y^2, with x the ligand and y the receptor of a pair.
void pair_moments(const Expression<float>& x, const Pairs& by_ligand, double* out) {
    sum_rows(x.rows, by_ligand.count * 3, out, [&] {
        return [&, row = std::vector<double>(x.width)](double* sums, i64 i) mutable {
            std::fill(row.begin(), row.end(), 0.0);
            x.each(i, [&](i32 gene, float value) { row[gene] = value; });
            x.each(i, [&](i32 gene, float value) {
                for (i64 p = by_ligand.ptr[gene]; p < by_ligand.ptr[gene + 1]; ++p) {
                    const double a = value, b = row[by_ligand.partner[p]], product = a * b;
                    double* to = sums + i64(by_ligand.slot[p]) * 3;
                    to[0] += product;
                    to[1] += product * a;
                    to[2] += product * b;
                }
            });
        };
    });
}

// (G, 3) sums over cells of x, x^2 and x^3, and (T, G) sums of x by type.
void gene_moments(const Expression<float>& x, const i32* types, i64 n_types, double* powers, double* by_type) {
    const i64 genes = x.width;
    std::vector<double> all((3 + n_types) * genes);
    sum_rows(x.rows, i64(all.size()), all.data(), [&] {
        return [&](double* sums, i64 i) {
            double* own = sums + (3 + types[i]) * genes;
            x.each(i, [&](i32 gene, float value) {
                const double a = value;
                sums[gene * 3] += a;
                sums[gene * 3 + 1] += a * a;
                sums[gene * 3 + 2] += a * a * a;
                own[gene] += a;
            });
        };
    });
    std::copy_n(all.begin(), 3 * genes, powers);
    std::copy(all.begin() + 3 * genes, all.end(), by_type);
}

// Values over their gene's scale as 16-bit integers, in panels (cell, GENES) of consecutive genes.
void quantise(const Expression<float>& x, const double* scale, i64 n_panels, i16* out) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < x.rows; ++i) {
        for (i64 t = 0; t < n_panels; ++t) std::fill_n(out + (t * x.rows + i) * GENES, GENES, i16(0));
        x.each(i, [&](i32 gene, float value) {
            out[((gene / GENES) * x.rows + i) * GENES + gene % GENES] = i16(std::nearbyint(double(value) / scale[gene]));
        });
    }
}

// Sums of one panel for each of PERMUTATIONS label vectors, interleaved by cell; 32-bit sums are emptied in time.
class PanelSums {
   public:
    explicit PanelSums(i64 n_types) : types_(n_types), small_(size()), large_(size()) {}
    const std::vector<i64>& of(const i16* panel, const u16* labels, i64 n) {
        std::fill(large_.begin(), large_.end(), i64(0));
        for (i64 first = 0; first < n; first += CELLS_A_FLUSH) {
            std::fill(small_.begin(), small_.end(), 0);
            for (i64 i = first; i < std::min(first + CELLS_A_FLUSH, n); ++i) {
                i32 x[GENES];
                for (i64 g = 0; g < GENES; ++g) x[g] = panel[i * GENES + g];
#pragma GCC unroll 8
                for (i64 q = 0; q < PERMUTATIONS; ++q) {
                    i32* to = small_.data() + (q * types_ + labels[i * PERMUTATIONS + q]) * GENES;
#pragma omp simd
                    for (i64 g = 0; g < GENES; ++g) to[g] += x[g];
                }
            }
            for (size_t k = 0; k < large_.size(); ++k) large_[k] += small_[k];
        }
        return large_;
    }

   private:
    size_t size() const { return size_t(PERMUTATIONS * types_ * GENES); }
    i64 types_;
    std::vector<i32> small_;
    std::vector<i64> large_;
};

// (count, genes, types) means under permutations first, first + 1, ... of the labels. factor (genes, types) turns a sum
// into a mean; a negative `first` leaves the labels as they are. Panels that nobody needs are left out.
void permuted_means(const i16* panels, const unsigned char* needed, const u16* labels, i64 n, i64 genes, i64 n_types,
                    u64 seed, i64 first, i64 count, const double* factor, double* means) {
    const i64 n_panels = (genes + GENES - 1) / GENES, n_batches = (count + PERMUTATIONS - 1) / PERMUTATIONS;
#pragma omp parallel
    {
        std::vector<u16> own(n), mixed(n * PERMUTATIONS, u16(0));
        PanelSums panel_sums(n_types);
#pragma omp for schedule(dynamic, 1)
        for (i64 b = 0; b < n_batches; ++b) {
            const i64 start = b * PERMUTATIONS, size = std::min(PERMUTATIONS, count - start);
            for (i64 q = 0; q < size; ++q) {
                std::copy_n(labels, n, own.begin());
                if (first >= 0) shuffle(own.data(), n, shuffle_start(seed, u64(first + start + q)));
                for (i64 i = 0; i < n; ++i) mixed[i * PERMUTATIONS + q] = own[i];
            }
            for (i64 t = 0; t < n_panels; ++t) {
                if (!needed[t]) continue;
                const auto& sums = panel_sums.of(panels + t * n * GENES, mixed.data(), n);
                for (i64 q = 0; q < size; ++q)
                    for (i64 g = t * GENES; g < std::min((t + 1) * GENES, genes); ++g)
                        for (i64 a = 0; a < n_types; ++a)
                            means[((start + q) * genes + g) * n_types + a] =
                                double(sums[(q * n_types + a) * GENES + g % GENES]) * factor[g * n_types + a];
            }
        }
    }
}

// Counts permutations whose score reaches the threshold, in order; a test with `enough` of them draws no more.
void count_reached(const double* means, i64 count, i64 genes, i64 n_types, const i32* lig, const i32* rec, i64 n_pairs,
                   const double* threshold, i32 enough, i32* reached, i32* drawn) {
    const i64 tests = n_types * n_types;
#pragma omp parallel for schedule(dynamic, 16)
    for (i64 p = 0; p < n_pairs; ++p) {
        const double* bar = threshold + p * tests;
        i32 *hits = reached + p * tests, *draws = drawn + p * tests;
        for (i64 q = 0; q < count; ++q) {
            const double* sender = means + (q * genes + lig[p]) * n_types;
            const double* receiver = means + (q * genes + rec[p]) * n_types;
            for (i64 a = 0; a < n_types; ++a) {
                const double own = sender[a];
#pragma omp simd
                for (i64 b = 0; b < n_types; ++b) {
                    const i32 open = hits[a * n_types + b] < enough;
                    draws[a * n_types + b] += open;
                    hits[a * n_types + b] += open & i32(own + receiver[b] >= bar[a * n_types + b]);
                }
            }
        }
    }
}

}  // namespace

void add_label_null(nb::module_& m) {
    m.def("label_null_pair_moments", [](nb::tuple x, nb::tuple pairs, Out<double, 2> out) {
        const Expression<float> cells(x);
        const Pairs by_ligand(pairs);
        nb::gil_scoped_release release;
        pair_moments(cells, by_ligand, out.data());
    });
    m.def("label_null_gene_moments", [](nb::tuple x, In<i32, 1> types, Out<double, 2> powers, Out<double, 2> by_type) {
        const Expression<float> cells(x);
        nb::gil_scoped_release release;
        gene_moments(cells, types.data(), i64(by_type.shape(0)), powers.data(), by_type.data());
    });
    m.def("label_null_quantise", [](nb::tuple x, In<double, 1> scale, Out<i16, 3> panels) {
        const Expression<float> cells(x);
        nb::gil_scoped_release release;
        quantise(cells, scale.data(), i64(panels.shape(0)), panels.data());
    });
    m.def("label_null_means", [](In<i16, 3> panels, In<unsigned char, 1> needed, In<u16, 1> labels, u64 seed, i64 first,
                                 In<double, 2> factor, Out<double, 3> means) {
        nb::gil_scoped_release release;
        permuted_means(panels.data(), needed.data(), labels.data(), i64(labels.shape(0)), i64(factor.shape(0)),
                       i64(factor.shape(1)), seed, first, i64(means.shape(0)), factor.data(), means.data());
    });
    m.def("label_null_count", [](In<double, 3> means, In<i32, 1> lig, In<i32, 1> rec, In<double, 3> threshold,
                                 i32 enough, Out<i32, 3> reached, Out<i32, 3> drawn) {
        nb::gil_scoped_release release;
        count_reached(means.data(), i64(means.shape(0)), i64(means.shape(1)), i64(means.shape(2)), lig.data(),
                      rec.data(), i64(lig.shape(0)), threshold.data(), enough, reached.data(), drawn.data());
    });
}

}  // namespace metaniche
