// Bilinear ligand-receptor logits of every edge and head, and their gradients, one row of gene sums at a time.
//
// near is what the row's own cell expresses, far what its neighbours do (see ligrec.cpp); heads lie side by side.
#include <algorithm>
#include <optional>
#include <vector>

#include <nanobind/stl/optional.h>

#include "cpu/arrays.h"
#include "cpu/expression.h"

namespace metaniche {
namespace {

constexpr int ROWS_A_TURN = 128;
// Rows whose weight gradients are added up before they join the total; the order of addition depends on it.
constexpr i64 ROWS_A_CHUNK = 4096;

// H heads; 0 when they are known at run time only.
template <int H>
struct Heads {
    i64 given;
    i64 count() const { return H ? H : given; }
    template <class T>
    void add(T* to, T factor, const T* x) const {
#pragma omp simd
        for (i64 h = 0; h < count(); ++h) to[h] += factor * x[h];
    }
    template <class T>
    T dot(const T* a, const T* b) const {
        T sum = 0;
        for (i64 h = 0; h < count(); ++h) sum += a[h] * b[h];
        return sum;
    }
};

template <class T>
struct Problem {
    const Expression<T>&far, &near;
    Pairs pairs;      // by near gene; slot is the pair's row of the weights
    const T* weight;  // (P, H)
    Csr graph;
};

// logit_eh = sum over the sender's genes of x_g v_gh, with v_gh = sum_p w_ph y_p of the receiver.
template <class T, int H>
void forward(const Problem<T>& in, Heads<H> heads, T* logits) {
    const i64 n_heads = heads.count();
#pragma omp parallel
    {
        std::vector<T> wanted(in.far.width * n_heads, T(0)), sum(n_heads);
#pragma omp for schedule(dynamic, ROWS_A_TURN)
        for (i64 i = 0; i < in.graph.rows; ++i) {
            if (in.graph.indptr[i] == in.graph.indptr[i + 1]) continue;
            in.near.each(i, [&](i32 gene, T y) {
                for (i64 p = in.pairs.ptr[gene]; p < in.pairs.ptr[gene + 1]; ++p)
                    heads.add(&wanted[in.pairs.partner[p] * n_heads], y, in.weight + in.pairs.slot[p] * n_heads);
            });
            for (i64 e = in.graph.indptr[i]; e < in.graph.indptr[i + 1]; ++e) {
                std::fill(sum.begin(), sum.end(), T(0));
                in.far.each(in.graph.indices[e], [&](i32 gene, T x) { heads.add(sum.data(), x, &wanted[gene * n_heads]); });
                std::copy(sum.begin(), sum.end(), logits + e * n_heads);
            }
            in.near.each(i, [&](i32 gene, T) {
                for (i64 p = in.pairs.ptr[gene]; p < in.pairs.ptr[gene + 1]; ++p)
                    std::fill_n(&wanted[in.pairs.partner[p] * n_heads], n_heads, T(0));
            });
        }
    }
}

// Gradients of near and, where asked for, of the weights; edges (or null) numbers the edges of the graph in grad.
template <class T, int H>
void backward(const Problem<T>& in, Heads<H> heads, const i64* edges, const T* grad, T* grad_near, T* grad_weight) {
    const i64 n_heads = heads.count(), n_weights = in.pairs.count * n_heads;
    const i64 n_chunks = (in.graph.rows + ROWS_A_CHUNK - 1) / ROWS_A_CHUNK;
    std::vector<double> total(grad_weight ? n_weights : 0, 0.0);
#pragma omp parallel
    {
        std::vector<T> around(in.far.width * n_heads);
        std::vector<double> partial(grad_weight ? n_weights : 0);
        const auto slope = [&](i32 gene) {
            T sum = 0;
            for (i64 p = in.pairs.ptr[gene]; p < in.pairs.ptr[gene + 1]; ++p)
                sum += heads.dot(&around[in.pairs.partner[p] * n_heads], in.weight + in.pairs.slot[p] * n_heads);
            return sum;
        };
#pragma omp for ordered schedule(dynamic, 1)
        for (i64 c = 0; c < n_chunks; ++c) {
            std::fill(partial.begin(), partial.end(), 0.0);
            for (i64 i = c * ROWS_A_CHUNK; i < std::min((c + 1) * ROWS_A_CHUNK, in.graph.rows); ++i) {
                std::fill(around.begin(), around.end(), T(0));
                for (i64 e = in.graph.indptr[i]; e < in.graph.indptr[i + 1]; ++e) {
                    const T* g = grad + (edges ? edges[e] : e) * n_heads;
                    in.far.each(in.graph.indices[e], [&](i32 gene, T x) { heads.add(&around[gene * n_heads], x, g); });
                }
                if (grad_weight)
                    in.near.each(i, [&](i32 gene, T y) {
                        for (i64 p = in.pairs.ptr[gene]; p < in.pairs.ptr[gene + 1]; ++p)
                            for (i64 h = 0; h < n_heads; ++h)
                                partial[in.pairs.slot[p] * n_heads + h] += y * around[in.pairs.partner[p] * n_heads + h];
                    });
                if (!grad_near) continue;
                if (in.near.is_dense)
                    for (i64 gene = 0; gene < in.near.width; ++gene) grad_near[i * in.near.width + gene] = slope(i32(gene));
                else
                    for (i64 k = in.near.ptr[i]; k < in.near.ptr[i + 1]; ++k) grad_near[k] = slope(in.near.columns[k]);
            }
#pragma omp ordered
            for (size_t k = 0; k < total.size(); ++k) total[k] += partial[k];
        }
    }
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
    const Expression<T> x(far), y(near);
    const Problem<T> in{x, y, Pairs(pairs), weight.data(), Csr(indptr, indices)};
    nb::gil_scoped_release release;
    with_heads(i64(weight.shape(1)), [&](auto heads) { forward(in, heads, logits.data()); });
}

template <class T>
void pair_logits_backward(nb::tuple far, nb::tuple near, nb::tuple pairs, In<T, 2> weight, In<i64, 1> indptr,
                          In<i32, 1> indices, std::optional<In<i64, 1>> edges, In<T, 2> grad,
                          std::optional<Out<T, 1>> grad_near, std::optional<Out<T, 2>> grad_weight) {
    const Expression<T> x(far), y(near);
    const Problem<T> in{x, y, Pairs(pairs), weight.data(), Csr(indptr, indices)};
    nb::gil_scoped_release release;
    with_heads(i64(weight.shape(1)), [&](auto heads) {
        backward(in, heads, edges ? edges->data() : nullptr, grad.data(), grad_near ? grad_near->data() : nullptr,
                 grad_weight ? grad_weight->data() : nullptr);
    });
}

}  // namespace

// One name for float32 and float64: nanobind chooses by the dtype of the weights.
void add_pair_logits(nb::module_& m) {
    m.def("pair_logits_forward", &pair_logits_forward<float>);
    m.def("pair_logits_forward", &pair_logits_forward<double>);
    const auto optional = nb::arg().none();
    m.def("pair_logits_backward", &pair_logits_backward<float>, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg(), optional, nb::arg(), optional, optional);
    m.def("pair_logits_backward", &pair_logits_backward<double>, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg(), optional, nb::arg(), optional, optional);
}

}  // namespace metaniche
