// Buffers of a test: each ends at a guard page; the checker knows their names.
#pragma once

#include <cstdint>
#include <vector>

namespace twin {

struct Buffer {
    char *start, *mapping;
    uint64_t bytes, mapped;
    const char* name;
    bool writable, initialised;
};
extern std::vector<Buffer> buffers;

}  // namespace twin
