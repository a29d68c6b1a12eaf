// Dot-product attention over a CSR, forward and backward: one number per edge and head at most, no atomics.
// Dropout factors are drawn again in the backward pass; they have passes of their own, so that none costs nothing.
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/dropout.h"
#include "cpu/arrays.h"
#include "cpu/by_sender.h"
#include "cpu/exp.h"

namespace metaniche {
namespace {

constexpr int ROWS_A_TURN = 128;

// D channels a head; 0 when they are known at run time only.
template <class T, int D>
struct Heads {
    i64 count, channels;
    Heads(i64 h, i64 d) : count(h), channels(d) {}
    i64 d() const { return D ? D : channels; }
    i64 width() const { return count * d(); }

    T dot(const T* a, const T* b) const {
        T sum = 0;
#pragma omp simd reduction(+ : sum)
        for (i64 c = 0; c < d(); ++c) sum += a[c] * b[c];
        return sum;
    }
    void add(T* to, T factor, const T* x) const {
#pragma omp simd
        for (i64 c = 0; c < d(); ++c) to[c] += factor * x[c];
    }
};

template <class T>
struct Inputs {
    const T *q, *k, *v, *bias, *null;
    i64 q_row, k_row, v_row;  // from one cell to the next
    Csr graph;
    T scale;
    Dropout<T> dropout;
    bool drops() const { return dropout.limit > 0; }
};

template <class T, int D>
void forward(const Inputs<T>& in, Heads<T, D> heads, T* out, T* lse) {
    const i64 width = heads.width(), n_heads = heads.count, d = heads.d();
#pragma omp parallel
    {
        std::vector<T> weights;
#pragma omp for schedule(dynamic, ROWS_A_TURN)
        for (i64 i = 0; i < in.graph.rows; ++i) {
            const i64 first = in.graph.indptr[i], degree = in.graph.indptr[i + 1] - first;
            if (i64(weights.size()) < degree * n_heads) weights.resize(degree * n_heads);
            T* w = weights.data();
            for (i64 e = 0; e < degree; ++e) {
                const T* k = in.k + i64(in.graph.indices[first + e]) * in.k_row;
                const T* bias = in.bias + (first + e) * n_heads;
                for (i64 h = 0; h < n_heads; ++h)
                    w[h * degree + e] = heads.dot(in.q + i * in.q_row + h * d, k + h * d) * in.scale + bias[h];
            }
            for (i64 h = 0; h < n_heads; ++h) {
                T* wh = w + h * degree;
                T top = in.null[h];
                for (i64 e = 0; e < degree; ++e) top = std::max(top, wh[e]);
                for (i64 e = 0; e < degree; ++e) wh[e] -= top;
                exp_in_place(wh, degree);
                T total = std::exp(in.null[h] - top);
                for (i64 e = 0; e < degree; ++e) total += wh[e];
                for (i64 e = 0; e < degree; ++e) wh[e] /= total;
                lse[i * n_heads + h] = top + std::log(total);
                if (in.drops())
                    for (i64 e = 0; e < degree; ++e) wh[e] *= in.dropout.factor(first + e, h);
            }
            T* o = out + i * width;
            std::fill(o, o + width, T(0));
            for (i64 e = 0; e < degree; ++e) {
                const T* v = in.v + i64(in.graph.indices[first + e]) * in.v_row;
                for (i64 h = 0; h < n_heads; ++h) heads.add(o + h * d, w[h * degree + e], v + h * d);
            }
        }
    }
}

// Of the edges first..last, from `slope` = grad . value to the slopes of the logits; `weight` becomes what passes values.
template <class T>
void slopes(const Inputs<T>& in, i64 first, i64 last, i64 n_heads, const T* delta, T* weight, T* slope) {
    for (i64 e = first; e < last; ++e) {
        T *w = weight + e * n_heads, *s = slope + e * n_heads;
        if (in.drops()) {
            for (i64 h = 0; h < n_heads; ++h) {
                const T factor = in.dropout.factor(e, h);
                s[h] = (factor * s[h] - delta[h]) * w[h];
                w[h] *= factor;
            }
        } else {
            for (i64 h = 0; h < n_heads; ++h) s[h] = (s[h] - delta[h]) * w[h];
        }
    }
}

struct BySender {
    std::vector<i64> ptr;
    std::vector<i64> edges;
    std::vector<i32> receivers;
    explicit BySender(const Csr& graph) : ptr(graph.rows + 1) {
        edges.resize(graph.indptr[graph.rows]);
        receivers.resize(edges.size());
        sort_by_sender(graph.indptr, graph.indices, graph.rows, ptr.data(), edges.data(), receivers.data());
    }
};

template <class T>
struct Gradients {
    T *q, *k, *v, *bias, *delta;
};

template <class T, int D>
void backward(const Inputs<T>& in, Heads<T, D> heads, const T* out, const T* lse, const T* grad, const Gradients<T>& to) {
    const i64 width = heads.width(), n_heads = heads.count, d = heads.d();
    std::vector<T> weights(in.graph.indptr[in.graph.rows] * n_heads);
#pragma omp parallel for schedule(dynamic, ROWS_A_TURN)
    for (i64 i = 0; i < in.graph.rows; ++i) {
        const T *q = in.q + i * in.q_row, *g = grad + i * width;
        T* grad_q = to.q + i * width;
        std::fill(grad_q, grad_q + width, T(0));
        for (i64 h = 0; h < n_heads; ++h) to.delta[i * n_heads + h] = heads.dot(g + h * d, out + i * width + h * d);
        const i64 first = in.graph.indptr[i], last = in.graph.indptr[i + 1];
        for (i64 e = first; e < last; ++e) {
            const i64 j = in.graph.indices[e];
            for (i64 h = 0; h < n_heads; ++h) {
                weights[e * n_heads + h] = heads.dot(q + h * d, in.k + j * in.k_row + h * d) * in.scale +
                                           in.bias[e * n_heads + h] - lse[i * n_heads + h];
                to.bias[e * n_heads + h] = heads.dot(g + h * d, in.v + j * in.v_row + h * d);
            }
        }
        exp_in_place(weights.data() + first * n_heads, (last - first) * n_heads);
        slopes(in, first, last, n_heads, to.delta + i * n_heads, weights.data(), to.bias);
        for (i64 e = first; e < last; ++e) {
            const T* k = in.k + i64(in.graph.indices[e]) * in.k_row;
            for (i64 h = 0; h < n_heads; ++h) heads.add(grad_q + h * d, to.bias[e * n_heads + h] * in.scale, k + h * d);
        }
    }
    const BySender senders(in.graph);
#pragma omp parallel for schedule(dynamic, ROWS_A_TURN)
    for (i64 j = 0; j < in.graph.rows; ++j) {
        T *grad_k = to.k + j * width, *grad_v = to.v + j * width;
        std::fill(grad_k, grad_k + width, T(0));
        std::fill(grad_v, grad_v + width, T(0));
        for (i64 at = senders.ptr[j]; at < senders.ptr[j + 1]; ++at) {
            const i64 e = senders.edges[at], i = senders.receivers[at];
            for (i64 h = 0; h < n_heads; ++h) {
                heads.add(grad_k + h * d, to.bias[e * n_heads + h] * in.scale, in.q + i * in.q_row + h * d);
                heads.add(grad_v + h * d, weights[e * n_heads + h], grad + i * width + h * d);
            }
        }
    }
}

template <class T, class Run>
void with_channels(i64 heads, i64 channels, Run&& run) {
    switch (channels) {
        case 8: return run(Heads<T, 8>(heads, channels));
        case 16: return run(Heads<T, 16>(heads, channels));
        case 32: return run(Heads<T, 32>(heads, channels));
        case 64: return run(Heads<T, 64>(heads, channels));
        default: return run(Heads<T, 0>(heads, channels));
    }
}

template <class T>
Inputs<T> inputs(const InRows<T, 3>& q, const InRows<T, 3>& k, const InRows<T, 3>& v, const In<i64, 1>& indptr,
                 const In<i32, 1>& indices, const In<T, 2>& bias, const In<T, 1>& null, const Dropout<T>& dropout) {
    const T scale = T(1 / std::sqrt(double(q.shape(2))));
    return {q.data(),    k.data(),    v.data(),    bias.data(),          null.data(), q.stride(0),
            k.stride(0), v.stride(0), Csr(indptr, indices), scale, dropout};
}

template <class T>
void edge_attention_forward(InRows<T, 3> q, InRows<T, 3> k, InRows<T, 3> v, In<i64, 1> indptr, In<i32, 1> indices, In<T, 2> bias,
                            In<T, 1> null, u64 start, u64 limit, double kept, Out<T, 3> out, Out<T, 2> lse) {
    const Inputs<T> in = inputs<T>(q, k, v, indptr, indices, bias, null, {start, limit, T(kept)});
    nb::gil_scoped_release release;
    with_channels<T>(i64(q.shape(1)), i64(q.shape(2)), [&](auto heads) { forward(in, heads, out.data(), lse.data()); });
}

template <class T>
void edge_attention_backward(InRows<T, 3> q, InRows<T, 3> k, InRows<T, 3> v, In<i64, 1> indptr, In<i32, 1> indices, In<T, 2> bias,
                             In<T, 1> null, u64 start, u64 limit, double kept, In<T, 3> out, In<T, 2> lse,
                             In<T, 3> grad, Out<T, 3> grad_q, Out<T, 3> grad_k, Out<T, 3> grad_v,
                             Out<T, 2> grad_bias, Out<T, 2> delta) {
    const Inputs<T> in = inputs<T>(q, k, v, indptr, indices, bias, null, {start, limit, T(kept)});
    const Gradients<T> to{grad_q.data(), grad_k.data(), grad_v.data(), grad_bias.data(), delta.data()};
    nb::gil_scoped_release release;
    with_channels<T>(i64(q.shape(1)), i64(q.shape(2)),
                     [&](auto heads) { backward(in, heads, out.data(), lse.data(), grad.data(), to); });
}

}  // namespace

// One name for float32 and float64: nanobind chooses by dtype.
void add_edge_attention(nb::module_& m) {
    m.def("edge_attention_forward", &edge_attention_forward<float>);
    m.def("edge_attention_forward", &edge_attention_forward<double>);
    m.def("edge_attention_backward", &edge_attention_backward<float>);
    m.def("edge_attention_backward", &edge_attention_backward<double>);
}

}  // namespace metaniche
