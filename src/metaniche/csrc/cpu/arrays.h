// Tensors at the border to Python: C order, on the CPU, dtype and rank checked by nanobind, never copied (see `def`).
#pragma once
#include <optional>

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

template <class T>
constexpr bool is_array = false;
template <class... Traits>
constexpr bool is_array<nb::ndarray<Traits...>> = true;
template <class T>
constexpr bool is_optional_array = false;
template <class... Traits>
constexpr bool is_optional_array<std::optional<nb::ndarray<Traits...>>> = true;

template <class T>
constexpr auto as_it_is() {
    if constexpr (is_optional_array<T>) return nb::arg().noconvert().none();
    else if constexpr (is_array<T>) return nb::arg().noconvert();
    else return nb::arg();
}

// A function of the module that takes arrays as they are. By itself nanobind would hand over converted copies of those of
// another dtype or order, and what is written into a copy is lost. A lambda takes a + before it, which makes it a function.
template <class Return, class... Arguments>
void def(nb::module_& m, const char* name, Return (*function)(Arguments...)) {
    m.def(name, function, as_it_is<Arguments>()...);
}

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
