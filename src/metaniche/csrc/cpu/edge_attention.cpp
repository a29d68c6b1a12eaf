// Dot-product attention over a CSR, forward and backward: one number per edge and head at most, no atomics.
// Dropout factors are drawn again in the backward pass.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "common/dropout.h"
#include "cpu/arrays.h"
#include "cpu/exp.h"
#include "cpu/guarded.h"
#include "cpu/rows.h"

namespace metaniche {
namespace {

constexpr int ROWS_A_TURN = 128;

template <class T>
struct Inputs {
    const T *q, *k, *v, *bias, *null;
    i64 q_row, k_row, v_row;  // from one cell to the next
    Csr graph;
    i64 heads;
    T scale;
    Dropout<T> dropout;
    bool drops() const { return dropout.limit > 0; }
    // Of the senders of i, from one channel on.
    Rows<T> keys(i64 i, i64 channel = 0) const { return {k + channel, k_row, graph.row(i), graph.degree(i)}; }
    Rows<T> values(i64 i, i64 channel = 0) const { return {v + channel, v_row, graph.row(i), graph.degree(i)}; }
    [[gnu::always_inline]] void prefetch(i64 i, i64 width) const {
        if (i >= graph.rows) return;
        keys(i).prefetch(width);
        values(i).prefetch(width);
    }
};

// Logits of all heads become weights, and lse (heads,) the log of the sum of their exponentials and the null slot's.
template <class T>
void softmax(T* w, i64 degree, i64 heads, const T* null, T* lse) {
    const i64 size = padded<T>(degree);
    for (i64 h = 0; h < heads; ++h) {
        T* wh = w + h * size;
        std::fill(wh + degree, wh + size, -std::numeric_limits<T>::infinity());
        lse[h] = largest(wh, size, null[h]);
        for (i64 e = 0; e < size; ++e) wh[e] -= lse[h];
    }
    exp_in_place(w, heads * size);
    for (i64 h = 0; h < heads; ++h) {
        T* wh = w + h * size;
        const T total = sum(wh, size) + std::exp(null[h] - lse[h]), part = 1 / total;
        for (i64 e = 0; e < size; ++e) wh[e] *= part;
        lse[h] += std::log(total);
    }
}

template <class T, int D>
void forward(const Inputs<T>& in, Width<T, D> channels, T* out, T* lse) {
    const i64 d = channels.count(), width = in.heads * d;
    Guarded guarded;
#pragma omp parallel
    {
        Scratch<T> weights;
#pragma omp for schedule(dynamic, ROWS_A_TURN)
        for (i64 i = 0; i < in.graph.rows; ++i) {
            in.prefetch(i + AHEAD, width);
            const i64 first = in.graph.indptr[i], degree = in.graph.degree(i), size = padded<T>(degree);
            T* w = nullptr;
            guarded([&] { w = weights.of(in.heads, degree); });
            if (guarded.failed()) continue;
            for (i64 h = 0; h < in.heads; ++h) {
                T* wh = w + h * size;
                channels.dots(in.q + i * in.q_row + h * d, in.keys(i, h * d), wh);
                for (i64 e = 0; e < degree; ++e) wh[e] = wh[e] * in.scale + in.bias[(first + e) * in.heads + h];
            }
            softmax(w, degree, in.heads, in.null, lse + i * in.heads);
            if (in.drops())
                for (i64 h = 0; h < in.heads; ++h)
                    for (i64 e = 0; e < degree; ++e) w[h * size + e] *= in.dropout.factor(first + e, h);
            for (i64 h = 0; h < in.heads; ++h)
                channels.sum(w + h * size, in.values(i, h * d), T(1), out + i * width + h * d);
        }
    }
    guarded.rethrow();
}

template <class T>
struct Gradients {
    T *q, *k, *v, *bias, *delta;
};

// Gradients of queries and biases; `passed` (E, heads) becomes the weights that passed values, dropout included.
template <class T, int D>
void backward_to_receivers(const Inputs<T>& in, Width<T, D> channels, const T* out, const T* lse, const T* grad,
                           const Gradients<T>& to, T* passed) {
    const i64 d = channels.count(), width = in.heads * d;
    Guarded guarded;
#pragma omp parallel
    {
        Scratch<T> weights, slopes;
#pragma omp for schedule(dynamic, ROWS_A_TURN)
        for (i64 i = 0; i < in.graph.rows; ++i) {
            in.prefetch(i + AHEAD, width);
            const i64 first = in.graph.indptr[i], degree = in.graph.degree(i), size = padded<T>(degree);
            T *w = nullptr, *s = nullptr;
            guarded([&] {
                w = weights.of(in.heads, degree);
                s = slopes.of(in.heads, degree);
            });
            if (guarded.failed()) continue;
            for (i64 h = 0; h < in.heads; ++h) {
                T* wh = w + h * size;
                const T log_sum = lse[i * in.heads + h];
                channels.dots(in.q + i * in.q_row + h * d, in.keys(i, h * d), wh);
                channels.dots(grad + i * width + h * d, in.values(i, h * d), s + h * size);
                for (i64 e = 0; e < degree; ++e) wh[e] = wh[e] * in.scale + in.bias[(first + e) * in.heads + h] - log_sum;
            }
            exp_in_place(w, in.heads * size);
            for (i64 h = 0; h < in.heads; ++h) {
                T *wh = w + h * size, *sh = s + h * size;
                const T delta = channels.dot(grad + i * width + h * d, out + i * width + h * d);
                to.delta[i * in.heads + h] = delta;
                for (i64 e = 0; e < degree; ++e) {
                    const T factor = in.drops() ? in.dropout.factor(first + e, h) : T(1);
                    sh[e] = (factor * sh[e] - delta) * wh[e];
                    to.bias[(first + e) * in.heads + h] = sh[e];
                    passed[(first + e) * in.heads + h] = factor * wh[e];
                }
                channels.sum(sh, in.keys(i, h * d), in.scale, to.q + i * width + h * d);
            }
        }
    }
    guarded.rethrow();
}

// The transposed graph: receivers of every sender, and where their edges lie in the CSR.
struct BySender {
    Csr receivers;
    const i64* edges;
};

// Gradients of keys and values, from the slopes of the logits in to.bias.
template <class T, int D>
void backward_to_senders(const Inputs<T>& in, const BySender& by, Width<T, D> channels, const T* grad, const T* passed,
                         const Gradients<T>& to) {
    const i64 d = channels.count(), width = in.heads * d, rows = in.graph.rows;
    const Csr& near = by.receivers;
    const auto queries = [&](i64 j, i64 channel) { return Rows<T>{in.q + channel, in.q_row, near.row(j), near.degree(j)}; };
    const auto grads = [&](i64 j, i64 channel) { return Rows<T>{grad + channel, width, near.row(j), near.degree(j)}; };
    Guarded guarded;
#pragma omp parallel
    {
        Scratch<T> weights, slopes;
#pragma omp for schedule(dynamic, ROWS_A_TURN)
        for (i64 j = 0; j < rows; ++j) {
            if (const i64 later = j + AHEAD; later < rows) {
                queries(later, 0).prefetch(width);
                grads(later, 0).prefetch(width);
                for (i64 at = near.indptr[later]; at < near.indptr[later + 1]; ++at) {
                    __builtin_prefetch(to.bias + by.edges[at] * in.heads);
                    __builtin_prefetch(passed + by.edges[at] * in.heads);
                }
            }
            const i64 first = near.indptr[j], degree = near.degree(j), size = padded<T>(degree);
            T *w = nullptr, *s = nullptr;
            guarded([&] {
                w = weights.of(in.heads, degree);
                s = slopes.of(in.heads, degree);
            });
            if (guarded.failed()) continue;
            for (i64 e = 0; e < degree; ++e)
                for (i64 h = 0; h < in.heads; ++h) {
                    w[h * size + e] = passed[by.edges[first + e] * in.heads + h];
                    s[h * size + e] = to.bias[by.edges[first + e] * in.heads + h];
                }
            for (i64 h = 0; h < in.heads; ++h) {
                channels.sum(s + h * size, queries(j, h * d), in.scale, to.k + j * width + h * d);
                channels.sum(w + h * size, grads(j, h * d), T(1), to.v + j * width + h * d);
            }
        }
    }
    guarded.rethrow();
}

template <class T, int D>
void backward(const Inputs<T>& in, const BySender& by, Width<T, D> channels, const T* out, const T* lse, const T* grad,
              const Gradients<T>& to) {
    const std::unique_ptr<T[]> passed(new T[in.graph.indptr[in.graph.rows] * in.heads]);
    backward_to_receivers(in, channels, out, lse, grad, to, passed.get());
    backward_to_senders(in, by, channels, grad, passed.get(), to);
}

template <class T>
Inputs<T> inputs(const InRows<T, 3>& q, const InRows<T, 3>& k, const InRows<T, 3>& v, const In<i64, 1>& indptr,
                 const In<i32, 1>& indices, const In<T, 2>& bias, const In<T, 1>& null, const Dropout<T>& dropout) {
    const T scale = T(1 / std::sqrt(double(q.shape(2))));
    return {q.data(),    k.data(),    v.data(),    bias.data(),          null.data(), q.stride(0),
            k.stride(0), v.stride(0), Csr(indptr, indices), i64(q.shape(1)), scale, dropout};
}

template <class T>
void edge_attention_forward(InRows<T, 3> q, InRows<T, 3> k, InRows<T, 3> v, In<i64, 1> indptr, In<i32, 1> indices, In<T, 2> bias,
                            In<T, 1> null, u64 start, u64 limit, double kept, Out<T, 3> out, Out<T, 2> lse) {
    const Inputs<T> in = inputs<T>(q, k, v, indptr, indices, bias, null, {start, limit, T(kept)});
    nb::gil_scoped_release release;
    with_width<T>(i64(q.shape(2)), [&](auto channels) { forward(in, channels, out.data(), lse.data()); });
}

template <class T>
void edge_attention_backward(InRows<T, 3> q, InRows<T, 3> k, InRows<T, 3> v, In<i64, 1> indptr, In<i32, 1> indices,
                             In<i64, 1> sender_ptr, In<i32, 1> receivers, In<i64, 1> edges, In<T, 2> bias, In<T, 1> null,
                             u64 start, u64 limit, double kept, In<T, 3> out, In<T, 2> lse, In<T, 3> grad, Out<T, 3> grad_q,
                             Out<T, 3> grad_k, Out<T, 3> grad_v, Out<T, 2> grad_bias, Out<T, 2> delta) {
    const Inputs<T> in = inputs<T>(q, k, v, indptr, indices, bias, null, {start, limit, T(kept)});
    const Gradients<T> to{grad_q.data(), grad_k.data(), grad_v.data(), grad_bias.data(), delta.data()};
    const BySender by{Csr(sender_ptr, receivers), edges.data()};
    nb::gil_scoped_release release;
    with_width<T>(i64(q.shape(2)),
                    [&](auto channels) { backward(in, by, channels, out.data(), lse.data(), grad.data(), to); });
}

}  // namespace

// One name for float32 and float64: nanobind chooses by dtype.
void add_edge_attention(nb::module_& m) {
    def(m, "edge_attention_forward", &edge_attention_forward<float>);
    def(m, "edge_attention_forward", &edge_attention_forward<double>);
    def(m, "edge_attention_backward", &edge_attention_backward<float>);
    def(m, "edge_attention_backward", &edge_attention_backward<double>);
}

}  // namespace metaniche
