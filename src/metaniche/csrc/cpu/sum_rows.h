// Sums over rows that are the same for any number of threads.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>

#include "common/types.h"
#include "cpu/guarded.h"

namespace metaniche {

// Rows whose sums are added up before they join the total; the order of addition depends on it.
constexpr i64 ROWS_A_SUM = 16384;

// make() gives each thread its add(partial, row); the partial sums of chunks of rows join the total in their order.
template <class Make>
void sum_rows(i64 rows, i64 size, double* total, Make&& make) {
    const i64 n_chunks = (rows + ROWS_A_SUM - 1) / ROWS_A_SUM;
    std::fill(total, total + size, 0.0);
    Guarded guarded;
#pragma omp parallel
    {
        std::vector<double> partial;
        std::optional<decltype(make())> add;
        guarded([&] {
            partial.resize(size);
            add.emplace(make());
        });
#pragma omp for ordered schedule(dynamic, 1)
        for (i64 c = 0; c < n_chunks; ++c) {
            if (guarded.failed()) continue;
            std::fill(partial.begin(), partial.end(), 0.0);
            for (i64 i = c * ROWS_A_SUM; i < std::min((c + 1) * ROWS_A_SUM, rows); ++i) (*add)(partial.data(), i);
#pragma omp ordered
            for (i64 k = 0; k < size; ++k) total[k] += partial[k];
        }
    }
    guarded.rethrow();
}

}  // namespace metaniche
