// Sums, maxima and softmax over the rows of a CSR: every row in one fixed order, rows in parallel.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/arrays.h"
#include "cpu/exp.h"
#include "cpu/guarded.h"

namespace metaniche {
namespace {

constexpr int ROWS_A_TURN = 256;

// Calls visit(row, first entry, last entry) in parallel.
template <class Visit>
void for_each_row(const In<i64, 1>& indptr, Visit&& visit) {
    const i64* ptr = indptr.data();
    const i64 rows = i64(indptr.shape(0)) - 1;
#pragma omp parallel for schedule(dynamic, ROWS_A_TURN)
    for (i64 r = 0; r < rows; ++r) visit(r, ptr[r], ptr[r + 1]);
}

template <class T>
void segment_sum(In<T, 2> x, In<i64, 1> indptr, Out<T, 2> sums) {
    const i64 width = i64(x.shape(1));
    nb::gil_scoped_release release;
    for_each_row(indptr, [&](i64 r, i64 first, i64 last) {
        T* sum = sums.data() + r * width;
        std::fill(sum, sum + width, T(0));
        for (i64 e = first; e < last; ++e) {
            const T* entry = x.data() + e * width;
#pragma omp simd
            for (i64 c = 0; c < width; ++c) sum[c] += entry[c];
        }
    });
}

// An empty row gives 0; NaN wins, as in torch.
template <class T>
void segment_max(In<T, 2> x, In<i64, 1> indptr, Out<T, 2> tops) {
    const i64 width = i64(x.shape(1));
    nb::gil_scoped_release release;
    for_each_row(indptr, [&](i64 r, i64 first, i64 last) {
        T* top = tops.data() + r * width;
        std::fill(top, top + width, first < last ? -std::numeric_limits<T>::infinity() : T(0));
        for (i64 e = first; e < last; ++e) {
            const T* entry = x.data() + e * width;
#pragma omp simd
            for (i64 c = 0; c < width; ++c) top[c] = top[c] >= entry[c] || top[c] != top[c] ? top[c] : entry[c];
        }
    });
}

template <class T>
void segment_softmax(In<T, 2> logits, In<i64, 1> indptr, Out<T, 2> weights) {
    const i64 width = i64(logits.shape(1));
    nb::gil_scoped_release release;
    Guarded guarded;
    for_each_row(indptr, [&](i64 r, i64 first, i64 last) {
        (void)r;
        thread_local std::vector<T> top, total;
        guarded([&] {
            top.assign(width, -std::numeric_limits<T>::infinity());
            total.assign(width, T(0));
        });
        if (guarded.failed()) return;
        const T* logit = logits.data();
        T* weight = weights.data();
        for (i64 e = first; e < last; ++e)
            for (i64 c = 0; c < width; ++c) top[c] = std::max(top[c], logit[e * width + c]);
        for (i64 e = first; e < last; ++e)
            for (i64 c = 0; c < width; ++c) weight[e * width + c] = logit[e * width + c] - top[c];
        exp_in_place(weight + first * width, (last - first) * width);
        for (i64 e = first; e < last; ++e)
            for (i64 c = 0; c < width; ++c) total[c] += weight[e * width + c];
        for (i64 e = first; e < last; ++e)
            for (i64 c = 0; c < width; ++c) weight[e * width + c] /= total[c];
    });
    guarded.rethrow();
}

}  // namespace

void add_segment(nb::module_& m) {
    def(m, "segment_sum", &segment_sum<float>);
    def(m, "segment_sum", &segment_sum<double>);
    def(m, "segment_max", &segment_max<float>);
    def(m, "segment_max", &segment_max<double>);
    def(m, "segment_softmax", &segment_softmax<float>);
    def(m, "segment_softmax", &segment_softmax<double>);
}

}  // namespace metaniche
