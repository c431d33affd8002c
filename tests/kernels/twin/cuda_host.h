// The words of cuda/common.cuh for g++: included before a kernel file, which then runs on the fibers of runtime.cpp.
#pragma once

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "runtime.h"

using std::min;  // of two ints only: mixed arguments do not compile

#define DEVICE [[gnu::unused]] static inline
#define DEVICE_MEMBER inline
#define KERNEL(name, Arguments, threads, blocks)                                              \
    static void name##_body(const Arguments& a);                                              \
    extern "C" int name(const void* arguments, unsigned size, TwinLaunch* launch) {           \
        return twin::run(#name, arguments, size, sizeof(Arguments), threads, launch,          \
                         [](const void* p) { name##_body(*static_cast<const Arguments*>(p)); }); \
    }                                                                                         \
    static void name##_body(const Arguments& a)
#define SHARED(T, s) T* s = static_cast<T*>(twin::shared)

#define threadIdx (twin::current->index)
#define blockIdx (twin::block)
#define blockDim (twin::block_size)

inline void __syncthreads(int line = __builtin_LINE()) { twin::barrier(line); }
inline void __syncwarp(int line = __builtin_LINE()) { twin::warp_barrier(line); }
inline float __shfl_xor_sync(unsigned mask, float v, int lanes, int line = __builtin_LINE()) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits = twin::exchange(mask, bits, lanes, line);
    memcpy(&v, &bits, 4);
    return v;
}

inline float __shfl_sync(unsigned mask, float v, int lane, int width, int line = __builtin_LINE()) {
    assert(lane < width && width < 32);
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits = twin::exchange(mask, bits, twin::GROUP * width + lane, line);
    memcpy(&v, &bits, 4);
    return v;
}

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };

DEVICE unsigned bits_of(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
DEVICE float float_of(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// Results below the smallest normal number are 0; asked to jitter, they move by up to 2 units in the last place.
DEVICE float approximate(float y) {
    if (fabsf(y) < 1.17549435e-38f) return 0.0f;
    if (!twin::jitter || !std::isfinite(y)) return y;
    unsigned bits = bits_of(y);
    return float_of(bits + (bits * 2654435761u >> 16) % 5 - 2);
}
DEVICE float exp2_fast(float x) { return approximate(exp2f(x)); }
DEVICE float reciprocal_fast(float x) { return approximate(1.0f / x); }
DEVICE float rsqrt_fast(float x) { return approximate((float)(1.0 / sqrt((double)x))); }

DEVICE float half_to_float(unsigned short h) {
    unsigned sign = (h & 0x8000u) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000u | fraction << 13);
    float tiny = ldexpf((float)fraction, -24);
    return exponent ? float_of(sign | (exponent + 112) << 23 | fraction << 13) : sign ? -tiny : tiny;
}
DEVICE unsigned short float_to_half(float x) {  // to nearest, ties to even
    unsigned bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7fff;
    if (magnitude >= 0x477ff000) return sign | 0x7c00;
    if (magnitude < 0x38800000) return sign | (unsigned short)lrintf(ldexpf(fabsf(x), 24));
    return sign | (unsigned short)((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

DEVICE float load_bits(const float* p) { return *p; }
DEVICE unsigned short load_bits(const unsigned short* p) { return *p; }
DEVICE void store_bits(float* p, float x) { *p = x; }
DEVICE unsigned long long multiply_wide(unsigned a, unsigned b) { return (unsigned long long)a * b; }
DEVICE float load_stored(const float* p, bool wanted) { return wanted ? *p : 0.0f; }

DEVICE void load2(const float* p, float (&v)[2]) {
    twin::aligned(p, 8);
    for (int i = 0; i < 2; ++i) v[i] = p[i];
}
DEVICE void load4(const float* p, float (&v)[4]) {
    twin::aligned(p, 16);
    for (int i = 0; i < 4; ++i) v[i] = p[i];
}
DEVICE void load4(const int* p, int (&v)[4]) {
    twin::aligned(p, 16);
    for (int i = 0; i < 4; ++i) v[i] = p[i];
}
DEVICE void store4(float* p, const float (&v)[4]) {
    twin::aligned(p, 16);
    for (int i = 0; i < 4; ++i) p[i] = v[i];
}
