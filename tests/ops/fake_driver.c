// A CUDA driver for the tests: enough of libcuda.so.1 for cuda-python to load kernels and launch them.
// "Kernels" are host functions of the library FAKE_KERNELS, called with the address of their struct and the launch.
// FAKE_REFUSES: cubin, ptx or both are refused as a real driver would. FAKE_VERSION: what cuDriverGetVersion says.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned u32;
struct Launch { u32 grid[3], block[3], shared; unsigned long stream; };
typedef int (*Kernel)(const void* arguments, const struct Launch* launch);
struct Launch last_launch;
u32 launches;

static int refuses(const char* what) {
  const char* list = getenv("FAKE_REFUSES");
  return list && (strstr(list, what) || strstr(list, "both"));
}

int cuInit(u32 flags) { return 0; }

int cuDriverGetVersion(int* version) {
  const char* stated = getenv("FAKE_VERSION");
  *version = stated ? atoi(stated) : 12000;
  return 0;
}

int cuLibraryLoadData(void** library, const void* code, void* o, void* v, u32 n, void* lo, void* lv, u32 ln) {
  int is_cubin = !memcmp(code, "\x7f" "ELF", 4);
  if (is_cubin && refuses("cubin")) return 209;  // CUDA_ERROR_NO_BINARY_FOR_GPU
  if (!is_cubin && refuses("ptx")) return 222;   // CUDA_ERROR_UNSUPPORTED_PTX_VERSION
  if (!is_cubin && strlen(code) < 16) return 218;  // CUDA_ERROR_INVALID_PTX
  *library = dlopen(getenv("FAKE_KERNELS"), RTLD_NOW);
  return *library ? 0 : 200;
}

int cuLibraryUnload(void* library) { return 0; }

int cuLibraryGetKernel(void** kernel, void* library, const char* name) {
  *kernel = dlsym(library, name);
  return *kernel ? 0 : 500;  // CUDA_ERROR_NOT_FOUND
}

int cuKernelGetFunction(void** function, void* kernel) {
  *function = kernel;
  return 0;
}

int cuLaunchKernel(void* f, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 shared, void* stream, void** arguments,
                   void** extra) {
  struct Launch launch = {{gx, gy, gz}, {bx, by, bz}, shared, (unsigned long)stream};
  last_launch = launch;
  launches++;
  if (!f || extra) return 1;  // CUDA_ERROR_INVALID_VALUE
  return ((Kernel)f)(arguments[0], &launch) ? 719 : 0;  // CUDA_ERROR_LAUNCH_FAILED
}

// NVRTC asks for this one before it compiles, and does not look whether it is there.
int cuGetExportTable(const void** table, const void* id) {
  *table = 0;
  return 500;
}

int cuGetProcAddress_v2(const char* name, void** function, int version, unsigned long flags, int* status) {
  *function = dlsym(RTLD_DEFAULT, name);
  if (!*function) *function = dlsym(dlopen("libcuda.so.1", RTLD_NOW), name);
  if (status) *status = *function ? 0 : 1;
  return *function ? 0 : 500;
}
int cuGetProcAddress(const char* name, void** function, int version, unsigned long flags) {
  return cuGetProcAddress_v2(name, function, version, flags, 0);
}
