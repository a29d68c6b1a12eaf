// One transport problem: the cells of a sample that hold mass, and the edges between them that a pair can use.
#pragma once
#include <algorithm>
#include <bit>
#include <vector>

#include "cpu/arrays.h"

namespace metaniche {

// Which columns of a row hold a number, as bits, and where in one compact array these numbers stand.
struct Pattern {
    struct Word {
        u64 mask = 0;
        i64 start = 0;  // place of the first set bit
        i64 place(u64 below) const { return start + std::popcount(mask & below); }
    };
    i64 words = 0, size = 0;
    std::vector<Word> all;

    void prepare(i64 rows, i64 columns) {
        words = (columns + 63) / 64;
        all.assign(rows * words + 1, {});
    }
    void set(i64 row, i64 column) { all[row * words + column / 64].mask |= u64(1) << (column % 64); }
    void number() {
        size = 0;
        for (Word& word : all) {
            word.start = size;
            size += std::popcount(word.mask);
        }
    }
    const Word* row(i64 r) const { return all.data() + r * words; }
    bool has(i64 r, i64 column) const { return row(r)[column / 64].mask >> (column % 64) & 1; }
    i64 begin(i64 r) const { return row(r)->start; }
    i64 end(i64 r) const { return row(r + 1)->start; }
    i64 place(i64 r, i64 column) const { return row(r)[column / 64].place((u64(1) << (column % 64)) - 1); }
    template <class Visit>
    void each(i64 r, Visit&& visit) const {
        i64 at = begin(r);
        for (i64 w = 0; w < words; ++w)
            for (u64 rest = row(r)[w].mask; rest; rest &= rest - 1) visit(w * 64 + std::countr_zero(rest), at++);
    }
};

// Senders with ligands, or receivers with receptors. The columns of `partner` are those of the other side's `own`.
struct Side {
    std::vector<i32> cells;
    Pattern own, partner;
    std::vector<double> mass;
    const std::vector<std::vector<i32>>* joined = nullptr;  // own columns paired with each partner column
    std::vector<i64> indptr;
    std::vector<i32> neighbours;
    std::vector<double> kernel;

    bool single = false;  // every row has one column: its number stands at the place of the row

    i64 rows() const { return i64(cells.size()); }
    i64 edges() const { return i64(neighbours.size()); }
    i64 begin(i64 row) const { return single ? row : own.begin(row); }
    i64 end(i64 row) const { return single ? row + 1 : own.end(row); }

    // partner numbers of one row from its own: the sum over the columns that a pair joins.
    void spread(i64 row, const double* x, double* out) const {
        if (single) {
            out[row] = x[row];
            return;
        }
        partner.each(row, [&](i64 column, i64 at) {
            double sum = 0;
            for (const i32 c : (*joined)[column])
                if (own.has(row, c)) sum += x[own.place(row, c)];
            out[at] = sum;
        });
    }
};

// Kernel-weighted sums over the neighbours of one row, in the columns where both sides hold a number.
inline void gather(const Side& to, const Side& from, const double* x, i64 row, double* out) {
    if (to.single) {
        double sum = 0;
        for (i64 e = to.indptr[row]; e < to.indptr[row + 1]; ++e) sum += to.kernel[e] * x[to.neighbours[e]];
        out[row] = sum;
        return;
    }
    const i64 words = to.own.words;
    const Pattern::Word* here = to.own.row(row);
    for (i64 at = to.own.begin(row); at < to.own.end(row); ++at) out[at] = 0;
    for (i64 e = to.indptr[row]; e < to.indptr[row + 1]; ++e) {
        const Pattern::Word* there = from.partner.row(to.neighbours[e]);
        const double k = to.kernel[e];
        for (i64 w = 0; w < words; ++w) {
            u64 both = here[w].mask & there[w].mask;
            if (here[w].mask == there[w].mask) {
                const int n = std::popcount(both);
                for (int c = 0; c < n; ++c) out[here[w].start + c] += k * x[there[w].start + c];
                continue;
            }
            for (; both; both &= both - 1) {
                const u64 below = (both & (~both + 1)) - 1;
                out[here[w].place(below)] += k * x[there[w].place(below)];
            }
        }
    }
}

// Masses (N, columns) of all cells.
struct Masses {
    const double* values;
    i64 width;
    double at(i64 cell, i64 column) const { return values[cell * width + column]; }
};

// Ligands and receptors that pairs hold together; pairs name positions in these two lists.
struct Group {
    std::vector<i32> ligands, receptors;
    std::vector<std::vector<i32>> receptors_of, ligands_of;
};

struct Problem {
    Side senders, receivers;

    Problem() = default;

    // All cells first..last with mass in the group's columns.
    Problem(const Group& group, Masses ligand, Masses receptor, const Csr& graph, const double* kernel, i64 first,
            i64 last) {
        std::vector<i32> sender_row(last - first, -1);
        fill(senders, ligand, group.ligands, first, last, sender_row.data());
        fill(receivers, receptor, group.receptors, first, last, nullptr);
        join(senders, group.receptors_of, i64(group.receptors.size()));
        join(receivers, group.ligands_of, i64(group.ligands.size()));
        senders.joined = &group.ligands_of;
        receivers.joined = &group.receptors_of;
        link(graph, kernel, first, sender_row);
        turn();
    }

    // Which columns of the other side each row is paired with.
    static void join(Side& side, const std::vector<std::vector<i32>>& partners, i64 columns) {
        side.partner.prepare(side.rows(), columns);
        for (i64 row = 0; row < side.rows(); ++row)
            side.own.each(row, [&](i64 column, i64) {
                for (const i32 c : partners[column]) side.partner.set(row, c);
            });
        side.partner.number();
    }

    // The edges by sender, receivers in ascending order.
    void turn() {
        senders.indptr.assign(senders.rows() + 1, 0);
        for (const i32 sender : receivers.neighbours) ++senders.indptr[sender + 1];
        for (i64 row = 0; row < senders.rows(); ++row) senders.indptr[row + 1] += senders.indptr[row];
        senders.neighbours.resize(receivers.edges());
        senders.kernel.resize(receivers.edges());
        std::vector<i64> next(senders.indptr.begin(), senders.indptr.end() - 1);
        for (i64 row = 0; row < receivers.rows(); ++row)
            for (i64 e = receivers.indptr[row]; e < receivers.indptr[row + 1]; ++e) {
                const i64 at = next[receivers.neighbours[e]]++;
                senders.neighbours[at] = i32(row);
                senders.kernel[at] = receivers.kernel[e];
            }
    }

private:
    static void fill(Side& side, Masses masses, const std::vector<i32>& columns, i64 first, i64 last, i32* row_of) {
        for (i64 cell = first; cell < last; ++cell)
            for (const i32 c : columns)
                if (masses.at(cell, c) > 0) {
                    if (row_of) row_of[cell - first] = i32(side.cells.size());
                    side.cells.push_back(i32(cell));
                    break;
                }
        side.own.prepare(side.rows(), i64(columns.size()));
        for (i64 row = 0; row < side.rows(); ++row)
            for (size_t c = 0; c < columns.size(); ++c)
                if (const double mass = masses.at(side.cells[row], columns[c]); mass > 0) {
                    side.own.set(row, i64(c));
                    side.mass.push_back(mass);
                }
        side.own.number();
    }

    // The edges over which at least one pair can send.
    void link(const Csr& graph, const double* kernel, i64 first, const std::vector<i32>& sender_row) {
        const i64 words = receivers.own.words;
        receivers.indptr.assign(1, 0);
        for (i64 row = 0; row < receivers.rows(); ++row) {
            const i64 cell = receivers.cells[row];
            for (i64 e = graph.indptr[cell]; e < graph.indptr[cell + 1]; ++e) {
                const i32 sender = sender_row[graph.indices[e] - first];
                if (sender < 0) continue;
                bool used = false;
                for (i64 w = 0; w < words; ++w)
                    used |= (receivers.own.row(row)[w].mask & senders.partner.row(sender)[w].mask) != 0;
                if (!used) continue;
                receivers.neighbours.push_back(sender);
                receivers.kernel.push_back(kernel[e]);
            }
            receivers.indptr.push_back(receivers.edges());
        }
    }
};

}  // namespace metaniche
