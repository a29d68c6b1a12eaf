// Hilbert keys of the cells of one sample.
#include "common/hilbert.h"

#include <algorithm>

#include "cpu/arrays.h"

namespace metaniche {
namespace {

template <int Dim>
void fill_keys(const float* pos, i64 n, i64* keys) {
    double low[Dim], extent = 0;
    for (int d = 0; d < Dim; ++d) {
        float least = pos[d], most = pos[d];
        for (i64 i = 1; i < n; ++i) {
            least = std::min(least, pos[i * Dim + d]);
            most = std::max(most, pos[i * Dim + d]);
        }
        low[d] = least;
        extent = std::max(extent, double(most) - double(least));
    }
    const double scale = ((1 << HILBERT_BITS) - 1) / (extent > 0 ? extent : 1.0);
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < n; ++i) {
        u32 axes[Dim];
        for (int d = 0; d < Dim; ++d) axes[d] = u32((double(pos[i * Dim + d]) - low[d]) * scale);
        keys[i] = i64(hilbert_key<Dim>(axes));
    }
}

void hilbert_keys(In<float, 2> pos, Out<i64, 1> keys) {
    const i64 n = i64(pos.shape(0));
    if (n == 0) return;
    nb::gil_scoped_release release;
    if (pos.shape(1) == 2) fill_keys<2>(pos.data(), n, keys.data());
    else fill_keys<3>(pos.data(), n, keys.data());
}

}  // namespace

void add_hilbert(nb::module_& m) { def(m, "hilbert_keys", &hilbert_keys); }

}  // namespace metaniche
