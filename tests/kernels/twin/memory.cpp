// See memory.h.
#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace twin {

std::vector<Buffer> buffers;

extern "C" void* twin_allocate(uint64_t bytes, const char* name, int writable, int initialised) {
    constexpr uint64_t PAGE = 4096;
    uint64_t room = (bytes + 15) / 16 * 16, pages = (room + PAGE - 1) / PAGE * PAGE;
    char* mapping = (char*)mmap(nullptr, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    mprotect(mapping + pages, PAGE, PROT_NONE);
    buffers.push_back({mapping + pages - room, mapping, bytes, pages + PAGE, strdup(name), writable != 0, initialised != 0});
    return buffers.back().start;
}

extern "C" void twin_forget();  // of the checker

extern "C" void twin_free_all() {
    twin_forget();
    for (Buffer& buffer : buffers) {
        munmap(buffer.mapping, buffer.mapped);
        free((void*)buffer.name);
    }
    buffers.clear();
}

}  // namespace twin
