// The words the kernels are written in. Compiled by NVRTC here; g++ takes its own from tests/kernels/twin/cuda_host.h, which
// defines the same names, so that the same kernels run on a CPU. This is the only file that asks who compiles.
#pragma once

#include "arguments.cuh"

struct half { unsigned short bits; };
struct bfloat { unsigned short bits; };

#ifdef __CUDACC__

#define DEVICE static __device__ __forceinline__
#define DEVICE_MEMBER __device__ __forceinline__
#define KERNEL(name, Arguments, threads, blocks) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Arguments a)
#define SHARED(T, s)                                         \
    extern __shared__ __align__(16) unsigned char shared_[]; \
    T* s = reinterpret_cast<T*>(shared_)

// 2^x, 1 / x and 1 / sqrt(x), 2 units in the last place; results below 2^-126 are 0.
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE float rsqrt_fast(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float half_to_float(unsigned short bits) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
    return y;
}
DEVICE unsigned short float_to_half(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

DEVICE unsigned bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_of(unsigned bits) { return __uint_as_float(bits); }

// Global memory: loads of what the kernel never writes, stores of what it never reads.
DEVICE float load_bits(const float* p) {
    float x;
    asm("{ .reg .u64 g; cvta.to.global.u64 g, %1; ld.global.nc.f32 %0, [g]; }" : "=f"(x) : "l"(p));
    return x;
}
DEVICE unsigned short load_bits(const unsigned short* p) {
    unsigned short x;
    asm("{ .reg .u64 g; cvta.to.global.u64 g, %1; ld.global.nc.u16 %0, [g]; }" : "=h"(x) : "l"(p));
    return x;
}
DEVICE void store_bits(float* p, float x) {
    asm volatile("{ .reg .u64 g; cvta.to.global.u64 g, %0; st.global.f32 [g], %1; }" ::"l"(p), "f"(x));
}

// What this block stored before a barrier, or 0 when it is not wanted: no branch, around which registers would be copied.
DEVICE float load_stored(const float* p, bool wanted) {
    float x;
    asm volatile(
        "{ .reg .u64 g; .reg .pred w; setp.ne.u32 w, %2, 0; cvta.to.global.u64 g, %1; mov.f32 %0, 0f00000000; "
        "@w ld.global.f32 %0, [g]; }"
        : "=f"(x)
        : "l"(p), "r"((unsigned)wanted));
    return x;
}

// The compiler forgets that the factors have 32 bits where it takes their extension out of a loop.
DEVICE unsigned long long multiply_wide(unsigned a, unsigned b) {
    unsigned long long product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
}

// 8 or 16 bytes at an aligned address.
DEVICE void load2(const float* p, float (&v)[2]) {
    float2 q = *reinterpret_cast<const float2*>(p);
    v[0] = q.x, v[1] = q.y;
}
DEVICE void load4(const float* p, float (&v)[4]) {
    float4 q = *reinterpret_cast<const float4*>(p);
    v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
}
DEVICE void load4(const int* p, int (&v)[4]) {
    int4 q = *reinterpret_cast<const int4*>(p);
    v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
}
DEVICE void store4(float* p, const float (&v)[4]) { *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]); }

#endif

DEVICE float load(const float* p) { return load_bits(p); }
DEVICE float load(const half* p) { return half_to_float(load_bits(&p->bits)); }
DEVICE float load(const bfloat* p) { return float_of((unsigned)load_bits(&p->bits) << 16); }

DEVICE void store(float* p, float x) { store_bits(p, x); }
DEVICE void store(half* p, float x) { p->bits = float_to_half(x); }
DEVICE void store(bfloat* p, float x) {  // to nearest, ties to even; sm_75 has no instruction for it
    unsigned bits = bits_of(x);
    p->bits = x != x ? 0x7fff : (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Element of a table whose rows are `bytes` apart: one instruction where an index in elements takes three.
template <class T> DEVICE T* at_row(T* base, int row, int bytes) {
    return reinterpret_cast<T*>(reinterpret_cast<unsigned long long>(base) + multiply_wide(row, bytes));
}
