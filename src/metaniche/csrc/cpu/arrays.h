// Tensors at the border to Python: C order, on the CPU, dtype and rank checked by nanobind, never copied.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "common/types.h"

namespace metaniche {

namespace nb = nanobind;

template <class T, int Rank>
using In = nb::ndarray<const T, nb::ndim<Rank>, nb::device::cpu, nb::c_contig>;
// Rows in C order that may lie apart, such as those of one of several projections in one tensor.
template <class T, int Rank>
using InRows = nb::ndarray<const T, nb::ndim<Rank>, nb::device::cpu>;
template <class T, int Rank>
using Out = nb::ndarray<T, nb::ndim<Rank>, nb::device::cpu, nb::c_contig>;

// The columns indices[indptr[r]:indptr[r + 1]] of row r.
struct Csr {
    const i64* indptr;
    const i32* indices;
    i64 rows;
    i64 degree(i64 r) const { return indptr[r + 1] - indptr[r]; }
    const i32* row(i64 r) const { return indices + indptr[r]; }
    Csr(const In<i64, 1>& p, const In<i32, 1>& c) : indptr(p.data()), indices(c.data()), rows(i64(p.shape(0)) - 1) {}
};

}  // namespace metaniche
