// Exceptions in OpenMP regions, such as those of memory that ends: one that leaves its thread would end the process.
#pragma once
#include <atomic>
#include <exception>
#include <utility>

namespace metaniche {

// Keeps the first exception of what threads run through it, until the region is over. What needs it done asks failed().
class Guarded {
   public:
    template <class Run>
    void operator()(Run&& run) noexcept {
        if (failed()) return;
        try {
            std::forward<Run>(run)();
        } catch (...) {
            if (!failed_.exchange(true)) first_ = std::current_exception();
        }
    }
    bool failed() const { return failed_.load(std::memory_order_relaxed); }
    void rethrow() const {
        if (first_) std::rethrow_exception(first_);
    }

   private:
    std::atomic<bool> failed_{false};
    std::exception_ptr first_;
};

}  // namespace metaniche
