// Expression of cells as CSR rows, whatever its storage, and the ligand-receptor pairs of each gene.
#pragma once
#include <algorithm>
#include <vector>

#include "cpu/arrays.h"

namespace metaniche {

// An array of a tuple from Python, never copied.
template <class A>
A item(const nb::tuple& t, size_t k) {
    return nb::cast<A>(t[k], false);
}

// From (values, ptr, columns, width): the entries of CSR rows; of a dense matrix (ptr is None) those that are not 0, which
// are looked for once where they are at most `max_share` of all, else at every visit.
template <class T>
class Expression {
   public:
    explicit Expression(const nb::tuple& t, double max_share = 1) : width(nb::cast<i64>(t[3])), is_dense(t[1].is_none()) {
        const auto given = item<In<T, 1>>(t, 0);
        if (!is_dense) {
            const auto p = item<In<i64, 1>>(t, 1);
            rows = i64(p.shape(0)) - 1;
            ptr = p.data();
            columns = item<In<i32, 1>>(t, 2).data();
            values = given.data();
        } else {
            rows = nb::cast<i64>(t[4]);
            dense = given.data();
            if (max_share > 0) compress(dense, max_share);
        }
    }
    template <class Visit>
    void each(i64 row, Visit&& visit) const {
        if (!ptr) return each_of_dense(dense + row * width, visit);
        for (i64 k = ptr[row]; k < ptr[row + 1]; ++k) visit(columns[k], values[k]);
    }

    i64 rows = 0, width = 0;
    bool is_dense;
    const T* dense = nullptr;
    const i64* ptr = nullptr;
    const i32* columns = nullptr;
    const T* values = nullptr;

   private:
    // Genes are noted first, with no branch on what they hold, which no processor could guess.
    template <class Visit>
    void each_of_dense(const T* x, Visit&& visit) const {
        constexpr i64 BLOCK = 64;
        i32 noted[BLOCK];
        for (i64 first = 0; first < width; first += BLOCK) {
            i64 count = 0;
            for (i64 g = first; g < std::min(first + BLOCK, width); ++g) {
                noted[count] = i32(g);
                count += x[g] != T(0);
            }
            for (i64 k = 0; k < count; ++k) visit(noted[k], x[noted[k]]);
        }
    }
    void compress(const T* x, double max_share) {
        own_ptr.assign(rows + 1, 0);
#pragma omp parallel for schedule(static)
        for (i64 i = 0; i < rows; ++i) {
            i64 count = 0;
            for (i64 g = 0; g < width; ++g) count += x[i * width + g] != T(0);
            own_ptr[i + 1] = count;
        }
        for (i64 i = 0; i < rows; ++i) own_ptr[i + 1] += own_ptr[i];
        if (double(own_ptr[rows]) > max_share * double(rows * width)) return;
        own_columns.resize(own_ptr[rows]);
        own_values.resize(own_ptr[rows]);
#pragma omp parallel for schedule(static)
        for (i64 i = 0; i < rows; ++i) {
            i64 at = own_ptr[i];
            for (i64 g = 0; g < width; ++g)
                if (x[i * width + g] != T(0)) {
                    own_columns[at] = i32(g);
                    own_values[at++] = x[i * width + g];
                }
        }
        ptr = own_ptr.data();
        columns = own_columns.data();
        values = own_values.data();
    }
    std::vector<i64> own_ptr;
    std::vector<i32> own_columns;
    std::vector<T> own_values;
};

// From (ptr, partner, slot): the pairs ptr[g]:ptr[g + 1] of gene g, the gene on the other side and the place of each
// in the output.
struct Pairs {
    const i64* ptr;
    const i32 *partner, *slot;
    i64 count;
    explicit Pairs(const nb::tuple& t)
        : ptr(item<In<i64, 1>>(t, 0).data()), partner(item<In<i32, 1>>(t, 1).data()), slot(item<In<i32, 1>>(t, 2).data()),
          count(i64(item<In<i32, 1>>(t, 1).shape(0))) {}
};

}  // namespace metaniche
