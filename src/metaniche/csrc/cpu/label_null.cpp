// Null distribution of cluster means under permutation of the labels: moments of expression, exact permutations.
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "common/shuffle.h"
#include "cpu/arrays.h"
#include "cpu/expression.h"
#include "cpu/guarded.h"
#include "cpu/sum_rows.h"

namespace metaniche {
namespace {

using Label = u8;

// Permutations that share one pass over the cells, and genes of a panel: their sums stay in the first-level cache.
constexpr i64 PERMUTATIONS = 8, GENES = 32;
// Values after which 32-bit sums of 16-bit values must be emptied.
constexpr i64 VALUES_A_FLUSH = 65536;

// (G, 3) sums over cells of x, x^2 and x^3, (T, G) sums of x by type, and (P, 3) sums of x y, x^2 y and x y^2 with x the
// ligand and y the receptor of a pair.
void raw_moments(const Expression<float>& x, const i32* types, i64 n_types, const Pairs& by_ligand, double* powers,
                 double* by_type, double* cross) {
    const i64 genes = x.width;
    std::vector<double> all((3 + n_types) * genes + 3 * by_ligand.count);
    sum_rows(x.rows, i64(all.size()), all.data(), [&] {
        return [&, row = std::vector<double>(genes)](double* sums, i64 i) mutable {
            double *own = sums + (3 + types[i]) * genes, *pair_sums = sums + (3 + n_types) * genes;
            std::fill(row.begin(), row.end(), 0.0);
            x.each(i, [&](i32 gene, float value) {
                const double a = row[gene] = value;
                sums[gene * 3] += a;
                sums[gene * 3 + 1] += a * a;
                sums[gene * 3 + 2] += a * a * a;
                own[gene] += a;
            });
            x.each(i, [&](i32 gene, float value) {
                for (i64 p = by_ligand.ptr[gene]; p < by_ligand.ptr[gene + 1]; ++p) {
                    const double a = value, b = row[by_ligand.partner[p]], product = a * b;
                    double* to = pair_sums + i64(by_ligand.slot[p]) * 3;
                    to[0] += product;
                    to[1] += product * a;
                    to[2] += product * b;
                }
            });
        };
    });
    const double* from = all.data();
    std::copy_n(from, 3 * genes, powers);
    std::copy_n(from + 3 * genes, n_types * genes, by_type);
    std::copy_n(from + (3 + n_types) * genes, 3 * by_ligand.count, cross);
}

// The largest absolute value of each gene (infinite where a value is not finite), whether all its values are whole
// numbers, and how many are not 0.
void ranges(const Expression<float>& x, double* largest, unsigned char* whole, i64* counts) {
    std::fill_n(largest, x.width, 0.0);
    std::fill_n(whole, x.width, 1);
    std::fill_n(counts, x.width, 0);
    Guarded guarded;
#pragma omp parallel
    {
        std::vector<double> top;
        std::vector<unsigned char> is_whole;
        std::vector<i64> count;
        guarded([&] {
            top.assign(x.width, 0.0);
            is_whole.assign(x.width, 1);
            count.assign(x.width, 0);
        });
#pragma omp for schedule(static)
        for (i64 i = 0; i < x.rows; ++i) {
            if (guarded.failed()) continue;
            x.each(i, [&](i32 gene, float value) {
                const double size = std::fabs(value);
                top[gene] = std::isfinite(value) ? std::max(top[gene], size) : INFINITY;
                is_whole[gene] &= value == std::nearbyint(value);
                count[gene] += value != 0.0f;
            });
        }
        // Maxima, whole numbers and counts: any order gives the same.
#pragma omp critical
        if (!guarded.failed())
            for (i64 g = 0; g < x.width; ++g) {
                largest[g] = std::max(largest[g], top[g]);
                whole[g] &= is_whole[g];
                counts[g] += count[g];
            }
    }
    guarded.rethrow();
}

// The integer steps of all cells for the genes of the pairs. Genes that many cells express come first, as panels of GENES
// (panel, cell, gene); of each other gene only the cells that express it are kept.
struct Steps {
    const i16* panels;
    i64 n_cells, n_dense;
    const i64* ptr;
    const i32* cells;
    const i16* values;
    i64 n_panels() const { return (n_dense + GENES - 1) / GENES; }
};

// place: the gene's number in the steps, or -1. next: ptr, which is used up.
void quantise(const Expression<float>& x, const i32* place, const double* scale, i64 n_dense, i16* panels,
              std::vector<i64> next, i32* cells, i16* values) {
    const auto step = [&](float value, i64 to) { return i16(std::nearbyint(double(value) / scale[to])); };
    const i64 n_panels = (n_dense + GENES - 1) / GENES;
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < x.rows; ++i) {
        for (i64 t = 0; t < n_panels; ++t) std::fill_n(panels + (t * x.rows + i) * GENES, GENES, i16(0));
        x.each(i, [&](i32 gene, float value) {
            const i64 to = place[gene];
            if (to >= 0 && to < n_dense) panels[((to / GENES) * x.rows + i) * GENES + to % GENES] = step(value, to);
        });
    }
    for (i64 i = 0; i < x.rows; ++i)
        x.each(i, [&](i32 gene, float value) {
            const i64 to = place[gene];
            if (to < n_dense || value == 0.0f) return;
            const i64 at = next[to - n_dense]++;
            cells[at] = i32(i);
            values[at] = step(value, to);
        });
}

// Sums by type for PERMUTATIONS label vectors at once, interleaved by cell; 32-bit sums are emptied in time.
class SumsByType {
   public:
    explicit SumsByType(i64 n_types) : types_(n_types), small_(PERMUTATIONS * n_types * GENES), large_(small_.size()) {}
    // (permutation, type, gene of the panel)
    const std::vector<i64>& of_panel(const i16* panel, const Label* labels, i64 n) {
        std::fill(large_.begin(), large_.end(), i64(0));
        for (i64 first = 0; first < n; first += VALUES_A_FLUSH) {
            for (i64 i = first; i < std::min(first + VALUES_A_FLUSH, n); ++i) {
                i32 x[GENES];
                for (i64 g = 0; g < GENES; ++g) x[g] = panel[i * GENES + g];
#pragma GCC unroll 8
                for (i64 q = 0; q < PERMUTATIONS; ++q) {
                    i32* to = small_.data() + (q * types_ + labels[i * PERMUTATIONS + q]) * GENES;
#pragma omp simd
                    for (i64 g = 0; g < GENES; ++g) to[g] += x[g];
                }
            }
            flush(small_.size());
        }
        return large_;
    }
    // (permutation, type) of one gene from the cells that express it
    const std::vector<i64>& of_cells(const i32* cells, const i16* values, i64 n, const Label* labels) {
        std::fill(large_.begin(), large_.end(), i64(0));
        for (i64 first = 0; first < n; first += VALUES_A_FLUSH) {
            for (i64 k = first; k < std::min(first + VALUES_A_FLUSH, n); ++k) {
                const Label* own = labels + cells[k] * PERMUTATIONS;
                const i32 value = values[k];
#pragma GCC unroll 8
                for (i64 q = 0; q < PERMUTATIONS; ++q) small_[q * types_ + own[q]] += value;
            }
            flush(PERMUTATIONS * types_);
        }
        return large_;
    }

   private:
    void flush(i64 size) {
        for (i64 k = 0; k < size; ++k) large_[k] += small_[k];
        std::fill_n(small_.begin(), size, 0);
    }
    i64 types_;
    std::vector<i32> small_;
    std::vector<i64> large_;
};

// (count, genes, types) means under permutations first, first + 1, ... of the labels. factor (genes, types) turns a sum
// into a mean; a negative `first` leaves the labels as they are. Genes that nobody needs may be left out.
void permuted_means(const Steps& steps, const unsigned char* needed, const Label* labels, i64 genes, i64 n_types,
                    u64 seed, i64 first, i64 count, const double* factor, double* means) {
    const i64 n = steps.n_cells, n_batches = (count + PERMUTATIONS - 1) / PERMUTATIONS;
    Guarded guarded;
#pragma omp parallel
    {
        std::vector<Label> own, mixed;
        std::optional<SumsByType> sums;
        guarded([&] {
            own.resize(n);
            mixed.resize(n * PERMUTATIONS);
            sums.emplace(n_types);
        });
#pragma omp for schedule(dynamic, 1)
        for (i64 b = 0; b < n_batches; ++b) {
            if (guarded.failed()) continue;
            const i64 start = b * PERMUTATIONS, size = std::min(PERMUTATIONS, count - start);
            for (i64 q = 0; q < size; ++q) {
                std::copy_n(labels, n, own.begin());
                if (first >= 0) shuffle(own.data(), n, shuffle_start(seed, u64(first + start + q)));
                for (i64 i = 0; i < n; ++i) mixed[i * PERMUTATIONS + q] = own[i];
            }
            const auto put = [&](i64 g, const i64* sum, i64 stride) {
                for (i64 q = 0; q < size; ++q)
                    for (i64 a = 0; a < n_types; ++a)
                        means[((start + q) * genes + g) * n_types + a] =
                            double(sum[(q * n_types + a) * stride]) * factor[g * n_types + a];
            };
            for (i64 t = 0; t < steps.n_panels(); ++t) {
                const i64 from = t * GENES, to = std::min(from + GENES, steps.n_dense);
                if (std::none_of(needed + from, needed + to, [](unsigned char gene) { return gene; })) continue;
                const auto& sum = sums->of_panel(steps.panels + t * n * GENES, mixed.data(), n);
                for (i64 g = from; g < to; ++g) put(g, sum.data() + g - from, GENES);
            }
            for (i64 g = steps.n_dense; g < genes; ++g) {
                if (!needed[g]) continue;
                const i64 begin = steps.ptr[g - steps.n_dense], end = steps.ptr[g - steps.n_dense + 1];
                const auto& sum = sums->of_cells(steps.cells + begin, steps.values + begin, end - begin, mixed.data());
                put(g, sum.data(), 1);
            }
        }
    }
    guarded.rethrow();
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
    def(m, "label_null_moments", +[](nb::tuple x, In<i32, 1> types, nb::tuple pairs, Out<double, 2> powers,
                                   Out<double, 2> by_type, Out<double, 2> cross) {
        const Expression<float> cells(x);
        const Pairs by_ligand(pairs);
        nb::gil_scoped_release release;
        raw_moments(cells, types.data(), i64(by_type.shape(0)), by_ligand, powers.data(), by_type.data(), cross.data());
    });
    def(m, "label_null_ranges", +[](nb::tuple x, Out<double, 1> largest, Out<unsigned char, 1> whole, Out<i64, 1> counts) {
        const Expression<float> cells(x);
        nb::gil_scoped_release release;
        ranges(cells, largest.data(), whole.data(), counts.data());
    });
    def(m, "label_null_quantise", +[](nb::tuple x, In<i32, 1> place, In<double, 1> scale, i64 n_dense, Out<i16, 3> panels,
                                    In<i64, 1> ptr, Out<i32, 1> cells, Out<i16, 1> values) {
        const Expression<float> expression(x);
        std::vector<i64> next(ptr.data(), ptr.data() + ptr.shape(0));
        nb::gil_scoped_release release;
        quantise(expression, place.data(), scale.data(), n_dense, panels.data(), std::move(next), cells.data(),
                 values.data());
    });
    def(m, "label_null_means", +[](In<i16, 3> panels, i64 n_dense, In<i64, 1> ptr, In<i32, 1> cells, In<i16, 1> values,
                                 In<unsigned char, 1> needed, In<Label, 1> labels, u64 seed, i64 first,
                                 In<double, 2> factor, Out<double, 3> means) {
        const Steps steps{panels.data(), i64(labels.shape(0)), n_dense, ptr.data(), cells.data(), values.data()};
        nb::gil_scoped_release release;
        permuted_means(steps, needed.data(), labels.data(), i64(factor.shape(0)), i64(factor.shape(1)), seed, first,
                       i64(means.shape(0)), factor.data(), means.data());
    });
    def(m, "label_null_count", +[](In<double, 3> means, In<i32, 1> lig, In<i32, 1> rec, In<double, 3> threshold,
                                 i32 enough, Out<i32, 3> reached, Out<i32, 3> drawn) {
        nb::gil_scoped_release release;
        count_reached(means.data(), i64(means.shape(0)), i64(means.shape(1)), i64(means.shape(2)), lig.data(),
                      rec.data(), i64(lig.shape(0)), threshold.data(), enough, reached.data(), drawn.data());
    });
}

}  // namespace metaniche
