// The extension module: every op adds its functions; threads are those of torch, set before each call.
#include "cpu/arrays.h"

#include <omp.h>

namespace metaniche {
void add_autocorrelation(nb::module_& m);
void add_by_sender(nb::module_& m);
void add_csr_encoder(nb::module_& m);
void add_edge_attention(nb::module_& m);
void add_edge_null(nb::module_& m);
void add_expression(nb::module_& m);
void add_hilbert(nb::module_& m);
void add_label_null(nb::module_& m);
void add_ligrec(nb::module_& m);
void add_neighbors(nb::module_& m);
void add_pair_logits(nb::module_& m);
void add_segment(nb::module_& m);
void add_transport(nb::module_& m);
}  // namespace metaniche

NB_MODULE(METANICHE_MODULE, m) {
    using namespace metaniche;
    m.doc() = "Native CPU implementations of metaniche.ops.";
    m.def("set_threads", [](int n) { omp_set_num_threads(n); }, nb::arg("n"));
    add_autocorrelation(m);
    add_by_sender(m);
    add_csr_encoder(m);
    add_edge_attention(m);
    add_edge_null(m);
    add_expression(m);
    add_hilbert(m);
    add_label_null(m);
    add_ligrec(m);
    add_neighbors(m);
    add_pair_logits(m);
    add_segment(m);
    add_transport(m);
}
