// A CUDA driver for the tests: enough of libcuda.so.1 for cuda-python to load kernels and launch them.
// Every image that it takes stands for the libraries FAKE_KERNELS (split by ':'), whose functions are kernels of the
// twin (twin/runtime.h).
// FAKE_REFUSES: "cubin", "ptx" or both are refused as a real driver would. FAKE_VERSION: what cuDriverGetVersion says.
// FAKE_SIZES: "name=bytes;" of the kernels' structs, which a real driver reads from the image; a name may be a beginning.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include "twin/runtime.h"

using Kernel = int (*)(const void* arguments, unsigned size, TwinLaunch* launch);

enum { INVALID_VALUE = 1, INVALID_IMAGE = 200, NO_BINARY_FOR_GPU = 209, UNSUPPORTED_PTX_VERSION = 222, NOT_FOUND = 500,
       LAUNCH_FAILED = 719 };

static bool refuses(const char* what) {
    const char* list = getenv("FAKE_REFUSES");
    return list && strstr(list, what);
}

static unsigned size_of_struct(void* kernel) {
    Dl_info info;
    const char* sizes = getenv("FAKE_SIZES");
    if (!sizes || !dladdr(kernel, &info)) return 0;
    for (const char* at = sizes; at && *at; at = strchr(at, ';'), at = at ? at + 1 : at) {
        const char* equals = strchr(at, '=');
        if (equals && !strncmp(info.dli_sname, at, equals - at)) return atoi(equals + 1);
    }
    return 0;
}

extern "C" {

struct FakeLaunch {
    unsigned grid[3], block[3], shared;
    unsigned long stream, launches;
} fake_launch;

int cuInit(unsigned) { return 0; }

int cuDriverGetVersion(int* version) {
    const char* stated = getenv("FAKE_VERSION");
    *version = stated ? atoi(stated) : 12000;
    return 0;
}

int cuLibraryLoadData(void** library, const void* image, void*, void*, unsigned, void*, void*, unsigned) {
    bool cubin = !memcmp(image, "\x7f" "ELF", 4);
    if (cubin && refuses("cubin")) return NO_BINARY_FOR_GPU;
    if (!cubin && refuses("ptx")) return UNSUPPORTED_PTX_VERSION;
    if (!cubin && !strstr(static_cast<const char*>(image), ".version 8.0\n")) return UNSUPPORTED_PTX_VERSION;
    *library = getenv("FAKE_KERNELS");
    return *library ? 0 : INVALID_IMAGE;
}

int cuLibraryGetKernel(void** kernel, void* library, const char* name) {
    std::stringstream paths(static_cast<const char*>(library));
    *kernel = nullptr;
    for (std::string path; !*kernel && std::getline(paths, path, ':');)
        if (void* opened = dlopen(path.c_str(), RTLD_NOW)) *kernel = dlsym(opened, name);
    return *kernel ? 0 : NOT_FOUND;
}

int cuKernelGetFunction(void** function, void* kernel) {
    *function = kernel;
    return 0;
}

int cuLaunchKernel(void* kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** arguments, void** extra) {
    fake_launch = {{gx, gy, gz}, {bx, by, bz}, shared, (unsigned long)stream, fake_launch.launches + 1};
    if (!kernel || extra || !gx || gy != 1 || gz != 1 || by != 1 || bz != 1 || shared > 48 * 1024) return INVALID_VALUE;
    TwinLaunch launch = {};
    launch.blocks = launch.count = gx;
    launch.threads = bx;
    launch.shared_bytes = shared;
    launch.seconds = 60;
    int failed = reinterpret_cast<Kernel>(kernel)(arguments[0], size_of_struct(kernel), &launch);
    if (failed) fprintf(stderr, "%s\n", launch.error);
    return failed ? LAUNCH_FAILED : 0;
}

// NVRTC asks for this one before it compiles, and does not look whether it is there.
int cuGetExportTable(const void** table, const void*) {
    *table = nullptr;
    return NOT_FOUND;
}

int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long, int* status) {
    *function = dlsym(dlopen("libcuda.so.1", RTLD_NOW), name);
    if (status) *status = *function ? 0 : 1;
    return *function ? 0 : NOT_FOUND;
}

}  // extern "C"
