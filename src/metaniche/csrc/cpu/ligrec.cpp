// Ligand-receptor signals along the edges of a graph, reduced as they arise: nothing of edges by pairs is ever stored.
//
// A row's own gene is called near, that of its neighbours far. Received signals take receptors as near and ligands as
// far; sent signals the other way round on the transposed graph.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "common/hill.h"
#include "cpu/arrays.h"
#include "cpu/expression.h"
#include "cpu/guarded.h"

namespace metaniche {
namespace {

constexpr int ROWS_A_TURN = 128;
// Rows of one receiver type whose sums are added up before they join the total; the order of addition depends on it.
constexpr i64 ROWS_A_CHUNK = 4096;

// The pairs of one row whose near gene is expressed.
class ActivePairs {
   public:
    ActivePairs(const Expression<float>& near, const Pairs& all) : near_(near), all_(all), pair(all.count), value(all.count) {}
    void find(i64 row) {
        count = 0;
        near_.each(row, [&](i32 gene, float x) {
            for (i64 p = all_.ptr[gene]; p < all_.ptr[gene + 1]; ++p) {
                pair[count] = i32(p);
                value[count++] = x;
            }
        });
    }

   private:
    const Expression<float>& near_;
    const Pairs& all_;

   public:
    i64 count = 0;
    std::vector<i32> pair;
    std::vector<float> value;
};

// Chains the active pairs by their far gene: first[gene], then next[k] until -1.
class ByPartner {
   public:
    ByPartner(i64 genes, i64 pairs) : first(genes, -1), next(pairs) {}
    void link(const ActivePairs& active, const Pairs& all) {
        for (i64 k = active.count - 1; k >= 0; --k) {
            const i32 gene = all.partner[active.pair[k]];
            next[k] = first[gene];
            first[gene] = i32(k);
        }
    }
    void unlink(const ActivePairs& active, const Pairs& all) {
        for (i64 k = 0; k < active.count; ++k) first[all.partner[active.pair[k]]] = -1;
    }
    std::vector<i32> first, next;
};

struct Problem {
    const Expression<float>&far, &near;
    Pairs pairs;
    Csr graph;
    const float* weight;
    Hill hill;
};

// visit(edge, k, signal) for every active pair k that the sender of an edge expresses too.
template <class Visit>
void saturated_edges(const Problem& in, i64 row, const ActivePairs& active, ByPartner& chains, Visit&& visit) {
    chains.link(active, in.pairs);
    for (i64 e = in.graph.indptr[row]; e < in.graph.indptr[row + 1]; ++e)
        in.far.each(in.graph.indices[e], [&](i32 gene, float x) {
            for (i32 k = chains.first[gene]; k >= 0; k = chains.next[k])
                if (x != 0.0f && active.value[k] != 0.0f) visit(e, k, in.weight[e] * in.hill(x * active.value[k]));
        });
    chains.unlink(active, in.pairs);
}

void signal(const Problem& in, i64 first_row, i64 n_rows, i64 n_slots, float* out) {
    Guarded guarded;
#pragma omp parallel
    {
        std::optional<ActivePairs> own;
        std::optional<ByPartner> chains;
        std::vector<float> around;
        std::vector<double> sums;
        guarded([&] {
            own.emplace(in.near, in.pairs);
            chains.emplace(in.hill.saturates() ? in.far.width : 0, in.hill.saturates() ? in.pairs.count : 0);
            around.resize(in.far.width);
            sums.resize(n_slots);
        });
#pragma omp for schedule(dynamic, ROWS_A_TURN)
        for (i64 r = 0; r < n_rows; ++r) {
            if (guarded.failed()) continue;
            ActivePairs& active = *own;
            const i64 row = first_row + r;
            std::fill(sums.begin(), sums.end(), 0.0);
            active.find(row);
            if (in.hill.saturates()) {
                saturated_edges(in, row, active, *chains,
                                [&](i64, i64 k, float s) { sums[in.pairs.slot[active.pair[k]]] += s; });
            } else if (active.count > 0) {
                std::fill(around.begin(), around.end(), 0.0f);
                for (i64 e = in.graph.indptr[row]; e < in.graph.indptr[row + 1]; ++e) {
                    const float w = in.weight[e];
                    in.far.each(in.graph.indices[e], [&](i32 gene, float x) { around[gene] += w * x; });
                }
                for (i64 k = 0; k < active.count; ++k) {
                    const i64 p = active.pair[k];
                    sums[in.pairs.slot[p]] += double(active.value[k]) * around[in.pairs.partner[p]];
                }
            }
            for (i64 s = 0; s < n_slots; ++s) out[r * n_slots + s] = float(sums[s]);
        }
    }
    guarded.rethrow();
}

// The rows of each type in chunks of at most ROWS_A_CHUNK; the same for any number of threads.
struct Chunks {
    struct Chunk {
        i32 type;
        i64 first, last;
    };
    std::vector<i32> row;
    std::vector<Chunk> chunks;
    Chunks(const i32* types, i64 n, i64 n_types) : row(n) {
        std::vector<i64> ptr(n_types + 1, 0);
        for (i64 i = 0; i < n; ++i) ++ptr[types[i] + 1];
        for (i64 t = 0; t < n_types; ++t) ptr[t + 1] += ptr[t];
        std::vector<i64> next(ptr.begin(), ptr.end() - 1);
        for (i64 i = 0; i < n; ++i) row[next[types[i]]++] = i32(i);
        for (i64 t = 0; t < n_types; ++t)
            for (i64 first = ptr[t]; first < ptr[t + 1]; first += ROWS_A_CHUNK)
                chunks.push_back({i32(t), first, std::min(first + ROWS_A_CHUNK, ptr[t + 1])});
    }
};

// What the senders of each type around one row express; only the types that are there take a turn.
class AroundByType {
   public:
    AroundByType(i64 n_types, i64 genes) : genes_(genes), place_(n_types, -1) {}
    void gather(const Problem& in, i64 row, const i32* types) {
        for (i32 t : present) place_[t] = -1;
        present.clear();
        for (i64 e = in.graph.indptr[row]; e < in.graph.indptr[row + 1]; ++e) {
            const i64 j = in.graph.indices[e];
            float* sum = of(types[j]);
            const float w = in.weight[e];
            in.far.each(j, [&](i32 gene, float x) { sum[gene] += w * x; });
        }
    }
    const float* operator[](size_t k) const { return sums_.data() + k * genes_; }
    std::vector<i32> present;

   private:
    float* of(i32 type) {
        if (place_[type] < 0) {
            place_[type] = i32(present.size());
            present.push_back(type);
            if (sums_.size() < present.size() * genes_) sums_.resize(present.size() * genes_);
            std::fill_n(sums_.begin() + place_[type] * genes_, genes_, 0.0f);
        }
        return sums_.data() + place_[type] * genes_;
    }
    i64 genes_;
    std::vector<i32> place_;
    std::vector<float> sums_;
};

// sums (sender type, receiver type, pair): a chunk's sums are added in the order of chunks, whoever computed them.
void type_sums(const Problem& in, const i32* types, i64 n_types, double* sums, i64* edges) {
    const i64 n_pairs = in.pairs.count;
    const Chunks work(types, in.graph.rows, n_types);
    std::fill(sums, sums + n_types * n_types * n_pairs, 0.0);
    std::fill(edges, edges + n_types * n_types, i64(0));
    Guarded guarded;
#pragma omp parallel
    {
        std::optional<ActivePairs> own;
        std::optional<ByPartner> chains;
        std::optional<AroundByType> by_type;
        std::vector<double> partial;
        std::vector<i64> seen;
        guarded([&] {
            own.emplace(in.near, in.pairs);
            chains.emplace(in.hill.saturates() ? in.far.width : 0, in.hill.saturates() ? n_pairs : 0);
            by_type.emplace(n_types, in.far.width);
            partial.resize(n_types * n_pairs);
            seen.resize(n_types);
        });
#pragma omp for ordered schedule(dynamic, 1)
        for (size_t c = 0; c < work.chunks.size(); ++c) {
            if (guarded.failed()) continue;
            ActivePairs& active = *own;
            AroundByType& around = *by_type;
            const Chunks::Chunk& chunk = work.chunks[c];
            std::fill(partial.begin(), partial.end(), 0.0);
            std::fill(seen.begin(), seen.end(), i64(0));
            for (i64 r = chunk.first; r < chunk.last; ++r) {
                const i64 row = work.row[r];
                for (i64 e = in.graph.indptr[row]; e < in.graph.indptr[row + 1]; ++e) ++seen[types[in.graph.indices[e]]];
                active.find(row);
                if (active.count == 0) continue;
                if (in.hill.saturates()) {
                    saturated_edges(in, row, active, *chains, [&](i64 e, i64 k, float s) {
                        partial[types[in.graph.indices[e]] * n_pairs + active.pair[k]] += s;
                    });
                    continue;
                }
                guarded([&] { around.gather(in, row, types); });
                if (guarded.failed()) break;
                for (size_t a = 0; a < around.present.size(); ++a) {
                    const float* sent = around[a];
                    double* to = partial.data() + around.present[a] * n_pairs;
                    for (i64 k = 0; k < active.count; ++k) {
                        const i64 p = active.pair[k];
                        to[p] += double(active.value[k]) * sent[in.pairs.partner[p]];
                    }
                }
            }
#pragma omp ordered
            for (i64 a = 0; a < n_types; ++a) {
                double* to = sums + (a * n_types + chunk.type) * n_pairs;
                for (i64 p = 0; p < n_pairs; ++p) to[in.pairs.slot[p]] += partial[a * n_pairs + p];
                edges[a * n_types + chunk.type] += seen[a];
            }
        }
    }
    guarded.rethrow();
}

}  // namespace

// One name for a row of either side: the caller decides which gene is near.
void add_ligrec(nb::module_& m) {
    def(m, "ligrec_signal", +[](nb::tuple far, nb::tuple near, nb::tuple pairs, In<i64, 1> indptr, In<i32, 1> indices,
                              In<float, 1> weight, float inverse_half, float exponent, i64 first_row, Out<float, 2> out) {
        const Pairs by_near(pairs);
        const Expression<float> x(far), y(near);
        const Csr graph(indptr, indices);
        nb::gil_scoped_release release;
        signal({x, y, by_near, graph, weight.data(), {inverse_half, exponent}}, first_row, i64(out.shape(0)),
               i64(out.shape(1)), out.data());
    });
    def(m, "ligrec_type_sums", +[](nb::tuple far, nb::tuple near, nb::tuple pairs, In<i64, 1> indptr, In<i32, 1> indices,
                                 In<float, 1> weight, float inverse_half, float exponent, In<i32, 1> types,
                                 Out<double, 3> sums, Out<i64, 2> edges) {
        const Pairs by_near(pairs);
        const Expression<float> x(far), y(near);
        const Csr graph(indptr, indices);
        nb::gil_scoped_release release;
        type_sums({x, y, by_near, graph, weight.data(), {inverse_half, exponent}}, types.data(), i64(edges.shape(0)),
                  sums.data(), edges.data());
    });
}

}  // namespace metaniche
