// Large pages for new tensors: the system hands out 2 MB at a time instead of 4 KB.
#include <cstdint>

#include "cpu/arrays.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace metaniche {

void add_large_pages(nb::module_& m) {
    def(m, "large_pages", +[](std::uintptr_t address, std::size_t bytes) {
#ifdef __linux__
        constexpr std::uintptr_t PAGE = 4096;
        const std::uintptr_t first = (address + PAGE - 1) / PAGE * PAGE, last = (address + bytes) / PAGE * PAGE;
        // Only a wish: where the system has none, nothing changes.
        if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
    });
}

}  // namespace metaniche
