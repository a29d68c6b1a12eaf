// Bilinear ligand-receptor logits of every edge and head, and their gradients, one row of gene sums at a time.
//
// near is what the row's own cell expresses, far what its neighbours do (see ligrec.cpp).
#include <algorithm>
#include <optional>
#include <vector>

#include <nanobind/stl/optional.h>

#include "cpu/arrays.h"
#include "cpu/expression.h"
#include "cpu/guarded.h"
#include "cpu/rows.h"

namespace metaniche {
namespace {

constexpr int ROWS_A_TURN = 128;
// Rows whose weight gradients are added up before they join the total; the order of addition depends on it.
constexpr i64 ROWS_A_CHUNK = 4096;

// Up to this share of numbers that are not 0, those of a dense matrix are cheaper to read than all by vectors; each costs about
// as much as 16 by vectors.
constexpr double SPARSE = 1.0 / 16;

// H heads; 0 when they are known at run time only.
template <int N>
struct Heads {
    static constexpr int H = N;
    i64 given;
    i64 count() const { return H ? H : given; }
};

template <class T>
struct Problem {
    const Expression<T>&far, &near;
    Pairs pairs;      // by near gene; slot is the pair's row of the weights
    const T* weight;  // (P, H)
    Csr graph;
};

// What the neighbours of a row express. A dense matrix is read as it lies, by vectors, for which sums over genes lie head by
// head; of any other (Sparse) the numbers that are not 0 are read, and sums lie gene by gene.
template <class T, int H, bool Sparse>
class Neighbours {
   public:
    Neighbours(const Problem<T>& in, Heads<H> heads) : in_(in), heads_(heads), genes_(in.far.width) {}

    // Where the sum of head h and gene g lies.
    i64 at(i64 h, i64 g) const { return Sparse ? g * heads_.count() + h : h * genes_.count() + g; }
    i64 size() const { return heads_.count() * genes_.count(); }

    // found[h, e] = sum over genes of x_eg weight[h, g], e padded to whole vectors
    void meet(i64 i, const T* weight, T* found) const {
        const i64 size = padded<T>(in_.graph.degree(i));
        if constexpr (!Sparse) {
            for (i64 h = 0; h < heads_.count(); ++h) genes_.dots(weight + at(h, 0), rows(i), found + h * size);
        } else {
            for (i64 e = 0; e < in_.graph.degree(i); ++e)
                for (i64 h = 0; h < heads_.count(); h += TOGETHER) {
                    T sum[TOGETHER] = {};
                    in_.far.each(in_.graph.row(i)[e], [&](i32 gene, T x) {
                        for (i64 t = 0; t < TOGETHER; ++t) sum[t] += x * weight[at(h + t, gene)];
                    });
                    for (i64 t = 0; t < TOGETHER; ++t) found[(h + t) * size + e] = sum[t];
                }
        }
    }
    // around[h, g] = sum over edges of weight[h, e] x_eg
    void gather(i64 i, const T* weight, T* around) const {
        const i64 size = padded<T>(in_.graph.degree(i));
        if constexpr (!Sparse) {
            for (i64 h = 0; h < heads_.count(); ++h) genes_.sum(weight + h * size, rows(i), T(1), around + at(h, 0));
        } else {
            std::fill(around, around + this->size(), T(0));
            for (i64 e = 0; e < in_.graph.degree(i); ++e)
                in_.far.each(in_.graph.row(i)[e], [&](i32 gene, T x) {
                    for (i64 h = 0; h < heads_.count(); ++h) around[at(h, gene)] += x * weight[h * size + e];
                });
        }
    }
    [[gnu::always_inline]] void prefetch(i64 i) const {
        if (!Sparse && i < in_.graph.rows) rows(i).prefetch(genes_.count());
    }

   private:
    static constexpr i64 TOGETHER = H ? H : 1;  // heads for which a sparse row is read once
    Rows<T> rows(i64 i) const { return {in_.far.dense, in_.far.width, in_.graph.row(i), in_.graph.degree(i)}; }
    const Problem<T>& in_;
    Heads<H> heads_;
    Width<T, 0> genes_;
};

// logit_eh = sum over the sender's genes of x_g v_gh, with v_gh = sum_p w_ph y_p of the receiver.
template <bool Sparse, class T, int H>
void forward(const Problem<T>& in, Heads<H> heads, T* logits) {
    const i64 n_heads = heads.count();
    const Neighbours<T, H, Sparse> senders(in, heads);
    Guarded guarded;
#pragma omp parallel
    {
        std::vector<T> wanted;
        Scratch<T> scratch;
        guarded([&] { wanted.resize(senders.size()); });
#pragma omp for schedule(dynamic, ROWS_A_TURN)
        for (i64 i = 0; i < in.graph.rows; ++i) {
            senders.prefetch(i + AHEAD);
            const i64 first = in.graph.indptr[i], degree = in.graph.degree(i), size = padded<T>(degree);
            if (degree == 0) continue;
            T* found = nullptr;
            guarded([&] { found = scratch.of(n_heads, degree); });
            if (guarded.failed()) continue;
            const auto each_pair = [&](auto&& visit) {
                in.near.each(i, [&](i32 gene, T y) {
                    for (i64 p = in.pairs.ptr[gene]; p < in.pairs.ptr[gene + 1]; ++p)
                        for (i64 h = 0; h < n_heads; ++h) visit(wanted[senders.at(h, in.pairs.partner[p])], y, p, h);
                });
            };
            each_pair([&](T& sum, T y, i64 p, i64 h) { sum += y * in.weight[in.pairs.slot[p] * n_heads + h]; });
            senders.meet(i, wanted.data(), found);
            if (Sparse) each_pair([](T& sum, T, i64, i64) { sum = 0; });  // of a panel of all genes, only what was touched
            else std::fill(wanted.begin(), wanted.end(), T(0));
            for (i64 e = 0; e < degree; ++e)
                for (i64 h = 0; h < n_heads; ++h) logits[(first + e) * n_heads + h] = found[h * size + e];
        }
    }
    guarded.rethrow();
}

// Gradients of near and, where asked for, of the weights; edges (or null) numbers the edges of the graph in grad.
template <bool Sparse, class T, int H>
void backward(const Problem<T>& in, Heads<H> heads, const i64* edges, const T* grad, T* grad_near, T* grad_weight) {
    const i64 n_heads = heads.count(), n_weights = in.pairs.count * n_heads;
    const i64 n_chunks = (in.graph.rows + ROWS_A_CHUNK - 1) / ROWS_A_CHUNK;
    std::vector<double> total(grad_weight ? n_weights : 0, 0.0);
    const Neighbours<T, H, Sparse> neighbours(in, heads);
    Guarded guarded;
#pragma omp parallel
    {
        std::vector<T> around;
        Scratch<T> scratch;
        std::vector<double> partial;
        guarded([&] {
            around.resize(neighbours.size());
            partial.resize(grad_weight ? n_weights : 0);
        });
        const auto slope = [&](i32 gene) {
            T sum = 0;
            for (i64 p = in.pairs.ptr[gene]; p < in.pairs.ptr[gene + 1]; ++p)
                for (i64 h = 0; h < n_heads; ++h)
                    sum += around[neighbours.at(h, in.pairs.partner[p])] * in.weight[in.pairs.slot[p] * n_heads + h];
            return sum;
        };
#pragma omp for ordered schedule(dynamic, 1)
        for (i64 c = 0; c < n_chunks; ++c) {
            if (guarded.failed()) continue;
            std::fill(partial.begin(), partial.end(), 0.0);
            for (i64 i = c * ROWS_A_CHUNK; i < std::min((c + 1) * ROWS_A_CHUNK, in.graph.rows); ++i) {
                neighbours.prefetch(i + AHEAD);
                const i64 first = in.graph.indptr[i], degree = in.graph.degree(i), size = padded<T>(degree);
                T* slopes = nullptr;
                guarded([&] { slopes = scratch.of(n_heads, degree); });
                if (guarded.failed()) break;
                for (i64 e = 0; e < degree; ++e)
                    for (i64 h = 0; h < n_heads; ++h)
                        slopes[h * size + e] = grad[(edges ? edges[first + e] : first + e) * n_heads + h];
                neighbours.gather(i, slopes, around.data());
                if (grad_weight && degree)
                    in.near.each(i, [&](i32 gene, T y) {
                        for (i64 p = in.pairs.ptr[gene]; p < in.pairs.ptr[gene + 1]; ++p)
                            for (i64 h = 0; h < n_heads; ++h)
                                partial[in.pairs.slot[p] * n_heads + h] += y * around[neighbours.at(h, in.pairs.partner[p])];
                    });
                if (!grad_near) continue;
                if (in.near.is_dense)
                    for (i64 gene = 0; gene < in.near.width; ++gene)
                        grad_near[i * in.near.width + gene] = degree ? slope(i32(gene)) : T(0);
                else
                    for (i64 k = in.near.ptr[i]; k < in.near.ptr[i + 1]; ++k) grad_near[k] = slope(in.near.columns[k]);
            }
#pragma omp ordered
            for (size_t k = 0; k < total.size(); ++k) total[k] += partial[k];
        }
    }
    guarded.rethrow();
    std::copy(total.begin(), total.end(), grad_weight);
}

template <class Run>
void with_heads(i64 heads, Run&& run) {
    switch (heads) {
        case 1: return run(Heads<1>{heads});
        case 2: return run(Heads<2>{heads});
        case 4: return run(Heads<4>{heads});
        case 8: return run(Heads<8>{heads});
        default: return run(Heads<0>{heads});
    }
}

template <class T>
void pair_logits_forward(nb::tuple far, nb::tuple near, nb::tuple pairs, In<T, 2> weight, In<i64, 1> indptr,
                         In<i32, 1> indices, Out<T, 2> logits) {
    const Expression<T> x(far, SPARSE), y(near, 0);
    const Problem<T> in{x, y, Pairs(pairs), weight.data(), Csr(indptr, indices)};
    nb::gil_scoped_release release;
    with_heads(i64(weight.shape(1)), [&](auto heads) {
        x.ptr ? forward<true>(in, heads, logits.data()) : forward<false>(in, heads, logits.data());
    });
}

template <class T>
void pair_logits_backward(nb::tuple far, nb::tuple near, nb::tuple pairs, In<T, 2> weight, In<i64, 1> indptr,
                          In<i32, 1> indices, std::optional<In<i64, 1>> edges, In<T, 2> grad,
                          std::optional<Out<T, 1>> grad_near, std::optional<Out<T, 2>> grad_weight) {
    const Expression<T> x(far, SPARSE), y(near, 0);
    const Problem<T> in{x, y, Pairs(pairs), weight.data(), Csr(indptr, indices)};
    nb::gil_scoped_release release;
    with_heads(i64(weight.shape(1)), [&](auto heads) {
        const auto run = x.ptr ? backward<true, T, heads.H> : backward<false, T, heads.H>;
        run(in, heads, edges ? edges->data() : nullptr, grad.data(), grad_near ? grad_near->data() : nullptr,
            grad_weight ? grad_weight->data() : nullptr);
    });
}

}  // namespace

// One name for float32 and float64: nanobind chooses by the dtype of the weights.
void add_pair_logits(nb::module_& m) {
    def(m, "pair_logits_forward", &pair_logits_forward<float>);
    def(m, "pair_logits_forward", &pair_logits_forward<double>);
    def(m, "pair_logits_backward", &pair_logits_backward<float>);
    def(m, "pair_logits_backward", &pair_logits_backward<double>);
}

}  // namespace metaniche
