// The parts of a transport problem between which no mass can go.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "cpu/transport_problem.h"

namespace metaniche {

// A mass is one cell's amount of one ligand or receptor. Masses are linked where an edge and a pair join them; an
// island is a set of linked masses, a mass without a link is in none.
class Islands {
public:
    explicit Islands(const Problem& p)
        : whole(p), senders_(p.senders), receivers_(p.receivers), parent_(senders_.size() + receivers_.size()),
          links_of_(receivers_.size(), 0) {
        std::iota(parent_.begin(), parent_.end(), 0);
        for (i64 row = 0; row < p.receivers.rows(); ++row)
            for (i64 e = p.receivers.indptr[row]; e < p.receivers.indptr[row + 1]; ++e)
                p.receivers.own.each(row, [&](i64 column, i64 mass) {
                    each_link(column, p.receivers.neighbours[e], [&](i64 from) {
                        const i32 a = root(i32(from)), b = root(i32(senders_.size() + mass));
                        parent_[std::max(a, b)] = std::min(a, b);
                        ++links_of_[mass];
                    });
                });
        number();
    }

    i64 count() const { return i64(senders_.ptr.size()) - 1; }
    i64 links(i64 k) const {
        i64 sum = 0;
        for (i64 at = receivers_.ptr[k]; at < receivers_.ptr[k + 1]; ++at) sum += links_of_[receivers_.ids[at]];
        return sum;
    }

    // With one row per mass and one edge per link: fast, but memory grows with the pairs.
    Problem by_mass(i64 k) const {
        Problem part;
        fill_by_mass(part.senders, whole.senders, senders_, k);
        fill_by_mass(part.receivers, whole.receivers, receivers_, k);
        part.receivers.indptr.assign(1, 0);
        for (i64 at = receivers_.ptr[k]; at < receivers_.ptr[k + 1]; ++at) {
            const i32 mass = receivers_.ids[at], row = receivers_.row[mass];
            for (i64 e = whole.receivers.indptr[row]; e < whole.receivers.indptr[row + 1]; ++e)
                each_link(receivers_.column[mass], whole.receivers.neighbours[e], [&](i64 from) {
                    part.receivers.neighbours.push_back(i32(senders_.place[from] - senders_.ptr[k]));
                    part.receivers.kernel.push_back(whole.receivers.kernel[e]);
                });
            part.receivers.indptr.push_back(part.receivers.edges());
        }
        part.turn();
        return part;
    }

    // With one row per cell: memory does not grow with the pairs.
    Problem by_cell(i64 k) const {
        Problem part;
        std::vector<i32> row_of;
        std::vector<i32> sender_row = fill_by_cell(part.senders, whole.senders, senders_, k, row_of);
        fill_by_cell(part.receivers, whole.receivers, receivers_, k, row_of);
        Problem::join(part.senders, *whole.receivers.joined, i64(whole.senders.joined->size()));
        Problem::join(part.receivers, *whole.senders.joined, i64(whole.receivers.joined->size()));
        part.receivers.indptr.assign(1, 0);
        for (i64 row = 0; row < part.receivers.rows(); ++row) {
            const i64 from = row_of[row];
            for (i64 e = whole.receivers.indptr[from]; e < whole.receivers.indptr[from + 1]; ++e) {
                i64 sender = -1;
                part.receivers.own.each(row, [&](i64 column, i64) {
                    each_link(column, whole.receivers.neighbours[e], [&](i64 mass) {
                        sender = sender_row[senders_.place[mass] - senders_.ptr[k]];
                    });
                });
                if (sender < 0) continue;
                part.receivers.neighbours.push_back(i32(sender));
                part.receivers.kernel.push_back(whole.receivers.kernel[e]);
            }
            part.receivers.indptr.push_back(part.receivers.edges());
        }
        part.turn();
        return part;
    }

private:
    // The masses of one side: where they are, and those of each island.
    struct MassList {
        std::vector<i32> row, column, ids, place;  // place: where a mass stands in ids
        std::vector<i64> ptr;
        explicit MassList(const Side& side) : row(side.own.size), column(side.own.size), place(side.own.size, -1) {
            for (i64 r = 0; r < side.rows(); ++r)
                side.own.each(r, [&](i64 c, i64 mass) {
                    row[mass] = i32(r);
                    column[mass] = i32(c);
                });
        }
        i64 size() const { return i64(row.size()); }
    };

    // The sender's masses that can go to a receptor: visit(mass).
    template <class Visit>
    void each_link(i64 receptor, i64 sender, Visit&& visit) const {
        for (const i32 ligand : (*whole.senders.joined)[receptor])
            if (whole.senders.own.has(sender, ligand)) visit(whole.senders.own.place(sender, ligand));
    }

    i32 root(i32 x) {
        while (parent_[x] != x) x = parent_[x] = parent_[parent_[x]];
        return x;
    }

    // Islands are numbered, and their masses listed, in ascending order of the masses.
    void number() {
        std::vector<i32> island(parent_.size(), -1);
        i32 islands = 0;
        for (i64 mass = 0; mass < receivers_.size(); ++mass)
            if (links_of_[mass])
                if (i32& k = island[root(i32(senders_.size() + mass))]; k < 0) k = islands++;
        for (i64 at = 0; at < i64(parent_.size()); ++at) island[at] = island[root(i32(at))];
        list(senders_, island.data(), islands);
        list(receivers_, island.data() + senders_.size(), islands);
    }
    static void list(MassList& masses, const i32* island, i32 islands) {
        masses.ptr.assign(islands + 1, 0);
        for (i64 mass = 0; mass < masses.size(); ++mass)
            if (island[mass] >= 0) ++masses.ptr[island[mass] + 1];
        for (i32 k = 0; k < islands; ++k) masses.ptr[k + 1] += masses.ptr[k];
        masses.ids.resize(masses.ptr[islands]);
        std::vector<i64> next(masses.ptr.begin(), masses.ptr.end() - 1);
        for (i64 mass = 0; mass < masses.size(); ++mass)
            if (island[mass] >= 0) {
                masses.place[mass] = i32(next[island[mass]]++);
                masses.ids[masses.place[mass]] = i32(mass);
            }
    }

    static void fill_by_mass(Side& side, const Side& from, const MassList& masses, i64 k) {
        side.single = true;
        side.own.prepare(masses.ptr[k + 1] - masses.ptr[k], from.own.words * 64);
        for (i64 at = masses.ptr[k]; at < masses.ptr[k + 1]; ++at) {
            const i32 mass = masses.ids[at];
            side.own.set(side.rows(), masses.column[mass]);
            side.cells.push_back(from.cells[masses.row[mass]]);
            side.mass.push_back(from.mass[mass]);
        }
        side.own.number();
        side.partner.size = side.rows();
    }

    // Returns the row of each mass of the island; `rows` are those of the whole problem.
    static std::vector<i32> fill_by_cell(Side& side, const Side& from, const MassList& masses, i64 k,
                                         std::vector<i32>& rows) {
        side.joined = from.joined;
        rows.clear();
        std::vector<i32> row_of;
        for (i64 at = masses.ptr[k]; at < masses.ptr[k + 1]; ++at) {
            const i32 mass = masses.ids[at];
            if (rows.empty() || rows.back() != masses.row[mass]) {
                rows.push_back(masses.row[mass]);
                side.cells.push_back(from.cells[masses.row[mass]]);
            }
            row_of.push_back(i32(rows.size()) - 1);
            side.mass.push_back(from.mass[mass]);
        }
        side.own.prepare(side.rows(), from.own.words * 64);
        for (size_t at = 0; at < row_of.size(); ++at) side.own.set(row_of[at], masses.column[masses.ids[masses.ptr[k] + at]]);
        side.own.number();
        return row_of;
    }

    const Problem& whole;
    MassList senders_, receivers_;
    std::vector<i32> parent_;
    std::vector<i64> links_of_;
};

}  // namespace metaniche
