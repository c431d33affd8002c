// Kernels for the tests of the launcher: one copies its struct to where the struct says, one fails.
#include <cstring>

#include "twin/runtime.h"

struct Record {
    void* out;
    int bytes;
};

extern "C" int record(const void* arguments, unsigned, TwinLaunch*) {
    const Record* record = static_cast<const Record*>(arguments);
    memcpy(record->out, arguments, record->bytes);
    return 0;
}

extern "C" int fail(const void*, unsigned, TwinLaunch*) { return 1; }
