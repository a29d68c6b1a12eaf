// Sums of edge scores that fix their moments under permutation of the cells' labels.
#include <algorithm>
#include <vector>

#include "cpu/arrays.h"
#include "cpu/sum_rows.h"

namespace metaniche {
namespace {

// The six sums of edge scores that fix the first two moments under any permutation of labels: w, w^2, w_ij w_ji,
// r_i^2, c_j^2, r_i c_i with r and c the sums over rows and columns; and the scores by type of sender and receiver.
void edge_sums(const Csr& graph, const double* score, const i32* types, i64 n_types, double* six, double* by_type) {
    std::vector<double> row(graph.rows, 0.0), column(graph.rows, 0.0);
    // Rows come in ascending order and so do the columns within them: the way back of (i, j) stands in row j at or after
    // that of the last (i', j), so that one place per row, which only moves on, finds them all.
    std::vector<i64> place(graph.indptr, graph.indptr + graph.rows);
    double mutual = 0;
    for (i64 i = 0; i < graph.rows; ++i)
        for (i64 e = graph.indptr[i]; e < graph.indptr[i + 1]; ++e) {
            const i64 j = graph.indices[e], end = graph.indptr[j + 1];
            row[i] += score[e];
            column[j] += score[e];
            i64 back = place[j];
            while (back < end && graph.indices[back] < i) ++back;
            if (back < end && graph.indices[back] == i) mutual += score[e] * score[back];
            place[j] = back;
        }
    std::vector<double> all(6 + n_types * n_types);
    sum_rows(graph.rows, i64(all.size()), all.data(), [&] {
        return [&](double* sums, i64 i) {
            sums[0] += row[i];
            sums[3] += row[i] * row[i];
            sums[4] += column[i] * column[i];
            sums[5] += row[i] * column[i];
            for (i64 e = graph.indptr[i]; e < graph.indptr[i + 1]; ++e) {
                const i64 j = graph.indices[e];
                sums[6 + types[j] * n_types + types[i]] += score[e];
                sums[1] += score[e] * score[e];
            }
        };
    });
    all[2] = mutual;
    std::copy_n(all.begin(), 6, six);
    std::copy(all.begin() + 6, all.end(), by_type);
}

}  // namespace

void add_edge_null(nb::module_& m) {
    def(m, "edge_null_sums", +[](In<i64, 1> indptr, In<i32, 1> indices, In<double, 1> score, In<i32, 1> types,
                               Out<double, 1> six, Out<double, 2> by_type) {
        const Csr graph(indptr, indices);
        nb::gil_scoped_release release;
        edge_sums(graph, score.data(), types.data(), i64(by_type.shape(0)), six.data(), by_type.data());
    });
}

}  // namespace metaniche
