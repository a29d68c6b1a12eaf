// CUDA C++ on the host: every CUDA thread is a fiber, so barriers, shuffles and ballots keep their meaning, and a
// kernel that misses one of them, reads beyond an array or leaves part of a warp behind is told so.
//
// A block runs at a time; which of its ready fibers goes on is drawn from the launch's seed.
#pragma once
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#define METANICHE_HOST_SHIM
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(8) float2 { float x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

namespace simt {

enum class State { ready, at_block_barrier, at_warp, done };
enum class Op { sync, shuffle, ballot, add, minimum, maximum };
constexpr size_t STACK = 64 << 10, SHARED = 227 << 10;

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    State state;
    uint3 thread;
    unsigned index;
    Op op;
    uint32_t mask;
    uint64_t value, result;
    int source;
};

// What the launch is about, for messages: where each array lies.
struct Range {
    const char* name;
    const char *first, *last;
    int64_t item;
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<unsigned> ready;
    std::function<void()> body;
    ucontext_t scheduler;
    Fiber* running = nullptr;
    uint3 index{};
    dim3 threads{}, grid{};
    std::mt19937 draw;
    unsigned seed = 0;
    int64_t switches = 0, most_switches = 0, serial = 0;
    std::string error;
    std::map<void*, int64_t> poisoned;  // shared variables by the block that last cleared them
    alignas(16) char shared[SHARED];
    int mutant = -1, shift_by = 0;
};
inline Block block;

inline void leave(State state) {
    block.running->state = state;
    swapcontext(&block.running->context, &block.scheduler);
}

inline bool refuse(const std::string& what, const Fiber& f) {
    if (block.error.empty())
        block.error = what + " in thread " + std::to_string(f.index) + " of block (" + std::to_string(block.index.x) +
                      ", " + std::to_string(block.index.y) + ")";
    return false;
}

[[noreturn]] inline void fail(const std::string& what) {
    refuse(what, *block.running);
    for (;;) leave(State::done);
}

inline void enter() {
    block.body();
    for (;;) leave(State::done);
}

inline std::string lanes(uint32_t mask) {
    char text[16];
    std::snprintf(text, sizeof text, "%08x", mask);
    return text;
}

// Lanes of the fiber's warp that still run.
inline uint32_t alive(const Fiber& f) {
    uint32_t mask = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
        const unsigned i = f.index / 32 * 32 + lane;
        if (i < block.fibers.size() && block.fibers[i].state != State::done) mask |= 1u << lane;
    }
    return mask;
}

// Hands the results to all lanes of the mask once the last one has come; false: others are awaited.
inline bool complete(Fiber& last) {
    Fiber* warp = &block.fibers[last.index / 32 * 32];
    const uint32_t named = last.mask & alive(last);
    for (int lane = 0; lane < 32; ++lane)
        if (named >> lane & 1) {
            const Fiber& f = warp[lane];
            if (f.state != State::at_warp && &f != &last) return false;
            if (f.mask != last.mask || f.op != last.op)
                return refuse("lanes " + lanes(named) + " meet in different warp operations", last);
        }
    if (last.op == Op::shuffle)
        for (int lane = 0; lane < 32; ++lane)
            if (named >> lane & 1 && !(named >> warp[lane].source & 1))
                return refuse("lane " + std::to_string(lane) + " shuffles from lane " +
                              std::to_string(warp[lane].source) + ", which is not with it", last);
    uint64_t joint = last.op == Op::minimum ? ~0ull : 0;
    for (int lane = 0; lane < 32; ++lane)
        if (named >> lane & 1) {
            const uint64_t v = warp[lane].value;
            if (last.op == Op::ballot) joint |= uint64_t(v != 0) << lane;
            if (last.op == Op::add) joint += v;
            if (last.op == Op::minimum) joint = std::min(joint, v);
            if (last.op == Op::maximum) joint = std::max(joint, v);
        }
    uint64_t values[32];
    for (int lane = 0; lane < 32; ++lane) values[lane] = named >> lane & 1 ? warp[lane].value : 0;
    for (int lane = 0; lane < 32; ++lane)
        if (named >> lane & 1) {
            Fiber& f = warp[lane];
            f.result = f.op == Op::shuffle ? values[f.source] : joint;
            if (&f != &last) {
                f.state = State::ready;
                block.ready.push_back(f.index);
            }
        }
    return true;
}

inline uint64_t meet(Op op, uint32_t mask, uint64_t value = 0, int source = 0) {
    Fiber& f = *block.running;
    if (!(mask >> (f.index & 31) & 1)) fail("a lane calls a warp operation whose mask " + lanes(mask) + " leaves it out");
    f.op = op, f.mask = mask, f.value = value, f.source = source & 31;
    if (++block.switches > block.most_switches) fail("no end after " + std::to_string(block.switches) + " warp operations");
    if (complete(f)) {
        block.ready.push_back(f.index);
        leave(State::ready);
    } else {
        leave(block.error.empty() ? State::at_warp : State::done);
    }
    return f.result;
}

template <class T>
T shuffle(uint32_t mask, T value, int source) {
    static_assert(sizeof(T) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = meet(Op::shuffle, mask, bits, source);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

inline int lane() { return int(block.running->index & 31); }

// Once a block, a shared variable holds no earlier block's values: NaN in float, far away as an index.
template <class T>
void clear_shared(T& variable) {
    int64_t& serial = block.poisoned[static_cast<void*>(&variable)];
    if (serial != block.serial) std::memset(static_cast<void*>(&variable), 0xff, sizeof(T));
    serial = block.serial;
}

template <class T>
const T* aligned(const T* p) {
    if (reinterpret_cast<uintptr_t>(p) % sizeof(T)) fail("an access of " + std::to_string(sizeof(T)) + " bytes is not aligned");
    return p;
}

// Mutations of the source: at most one is switched on.
inline bool keeps(int site) { return site != block.mutant; }
inline int shift(int site) { return site == block.mutant ? block.shift_by : 0; }

// Lets go whoever can be let go once no fiber is ready; false: nobody can.
inline bool release() {
    bool all_at_barrier = true;
    for (Fiber& f : block.fibers) {
        all_at_barrier = all_at_barrier && (f.state == State::at_block_barrier || f.state == State::done);
        // Lanes whose partners have left the kernel wait for nobody any more.
        if (f.state == State::at_warp && complete(f)) {
            f.state = State::ready;
            block.ready.push_back(f.index);
            return true;
        }
    }
    if (!all_at_barrier || !block.error.empty()) return false;
    for (Fiber& f : block.fibers)
        if (f.state == State::at_block_barrier) {
            f.state = State::ready;
            block.ready.push_back(f.index);
        }
    return true;
}

inline void describe_deadlock() {
    std::string at;
    for (Fiber& f : block.fibers)
        if (f.state == State::at_block_barrier || f.state == State::at_warp)
            at += " " + std::to_string(f.index) + (f.state == State::at_warp ? " (warp " + lanes(f.mask) + ")" : " (barrier)");
    block.error = "deadlock: threads wait for ever:" + at.substr(0, 400);
}

// Seed 0: last come, first served. Odd seeds: any ready fiber. Other seeds: a warp runs on for as long as it can.
inline size_t next() {
    if (block.seed == 0) return block.ready.size() - 1;
    const size_t any = block.draw() % block.ready.size();
    if (block.seed % 2 == 0 && block.running)
        for (size_t i = 0; i < block.ready.size(); ++i) {
            const size_t pick = (any + i) % block.ready.size();
            if (block.ready[pick] / 32 == block.running->index / 32) return pick;
        }
    return any;
}

inline void run_block() {
    ++block.serial;
    block.running = nullptr;
    std::memset(block.shared, 0xff, SHARED);
    block.ready.clear();
    for (Fiber& f : block.fibers) {
        if (!f.stack) f.stack.reset(new char[STACK]);
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
        f.state = State::ready;
        f.index = unsigned(&f - block.fibers.data());
        f.thread = {f.index, 0, 0};
        block.ready.push_back(f.index);
    }
    size_t done = 0;
    while (done < block.fibers.size() && block.error.empty()) {
        if (block.ready.empty() && !release()) {
            if (block.error.empty()) describe_deadlock();
            return;
        }
        std::swap(block.ready[next()], block.ready.back());
        block.running = &block.fibers[block.ready.back()];
        block.ready.pop_back();
        swapcontext(&block.scheduler, &block.running->context);
        done += block.running->state == State::done;
    }
}

inline sigjmp_buf way_out;
inline const Range* ranges;
inline int n_ranges;
inline char signal_stack[64 << 10];

inline void on_signal(int number, siginfo_t* info, void*) {
    std::string what = number == SIGALRM ? "no end: the time is over" : number == SIGILL || number == SIGTRAP ? "undefined behaviour" : "a wild access";
    const char* address = static_cast<const char*>(info->si_addr);
    for (int r = 0; (number == SIGSEGV || number == SIGBUS) && r < n_ranges; ++r)
        if (address >= ranges[r].first - (64 << 12) && address < ranges[r].last + (64 << 12))
            what = std::string("an access beyond `") + ranges[r].name + "`, at element " +
                   std::to_string((address - ranges[r].first) / ranges[r].item);
    block.error = what;
    siglongjmp(way_out, 1);
}

// Runs the kernel; "" or what went wrong.
inline const char* launch(unsigned grid_x, unsigned grid_y, unsigned threads, unsigned seed, double seconds,
                          const Range* where, int n_where, std::function<void()> body) {
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGALRM};
    struct sigaction before[6], own {};
    own.sa_sigaction = on_signal;
    own.sa_flags = SA_SIGINFO | SA_ONSTACK;
    stack_t stack{signal_stack, 0, sizeof signal_stack}, old_stack;
    sigaltstack(&stack, &old_stack);
    for (int i = 0; i < 6; ++i) sigaction(numbers[i], &own, &before[i]);
    const itimerval limit{{0, 0}, {long(seconds), long((seconds - long(seconds)) * 1e6)}}, none{};
    setitimer(ITIMER_REAL, &limit, nullptr);

    block.grid = {grid_x, grid_y, 1};
    block.threads = {threads, 1, 1};
    block.body = std::move(body);
    block.fibers.resize(threads);
    block.draw.seed(seed);
    block.seed = seed;
    block.switches = 0;
    block.error.clear();
    ranges = where, n_ranges = n_where;
    if (!sigsetjmp(way_out, 1)) {
        std::vector<unsigned> order(size_t(grid_x) * grid_y);
        for (unsigned i = 0; i < order.size(); ++i) order[i] = i;
        if (seed) std::shuffle(order.begin(), order.end(), block.draw);
        for (unsigned i : order) {
            block.index = {i % grid_x, i / grid_x, 0};
            run_block();
            if (!block.error.empty()) break;
        }
    }
    setitimer(ITIMER_REAL, &none, nullptr);
    for (int i = 0; i < 6; ++i) sigaction(numbers[i], &before[i], nullptr);
    sigaltstack(&old_stack, nullptr);
    return block.error.c_str();
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
}

template <class... A>
const char* launch(void (*kernel)(A...), void** arguments, unsigned x, unsigned y, unsigned threads, unsigned seed,
                   double seconds, const Range* where, int n_where) {
    return launch(x, y, threads, seed, seconds, where, n_where,
                  [=] { call(kernel, arguments, std::index_sequence_for<A...>()); });
}

}  // namespace simt

#define SIMT_ENTRY(name)                                                                                              \
    extern "C" const char* simt_##name(void** arguments, unsigned x, unsigned y, unsigned threads, unsigned seed,    \
                                       double seconds, const simt::Range* where, int n_where) {                      \
        return simt::launch(name, arguments, x, y, threads, seed, seconds, where, n_where);                          \
    }
extern "C" void simt_configure(int mutant, int shift_by, int64_t most_switches) {
    simt::block.mutant = mutant;
    simt::block.shift_by = shift_by;
    simt::block.most_switches = most_switches;
}

#include "builtins.h"
