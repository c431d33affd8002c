// What follows the scan in inference: the sum of its parts, layer norm over channels, times gelu(gate). A warp owns a token; it
// reads the parts three times, of which the first fills the cache.
#include "common.cuh"

DEVICE float summed(const NormGate& a, i64 token, int d) {
    const float* part = a.parts + token * a.channels + d;
    float sum = 0.0f;
#pragma unroll 4
    for (int p = 0; p < a.planes; ++p, part += a.tokens * a.channels) sum += *part;
    return sum;
}

DEVICE float warp_sum(float v) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(0xffffffffu, v, lanes);
    return v;
}

template <class T> DEVICE void norm_gate(const NormGate& a) {
    i64 token = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (token >= a.tokens) return;  // all lanes of a warp alike, and there is no barrier
    int lane = threadIdx.x % 32;
    float scale = reciprocal_fast((float)a.channels), sum = 0.0f, squares = 0.0f;
    for (int d = lane; d < a.channels; d += 32) sum += summed(a, token, d);
    float mean = warp_sum(sum) * scale;
    for (int d = lane; d < a.channels; d += 32) {
        float off = summed(a, token, d) - mean;
        squares = fmaf(off, off, squares);
    }
    float inverse = rsqrt_fast(fmaf(warp_sum(squares), scale, a.eps));
    const T* gate = static_cast<const T*>(a.gate) + token * a.gate_stride;
    for (int d = lane; d < a.channels; d += 32) {
        float normed = fmaf((summed(a, token, d) - mean) * inverse, a.weight[d], a.bias[d]), g = load(gate + d);
        store(static_cast<T*>(a.out) + token * a.channels + d, normed * 0.5f * g * (1.0f + erff(g * 0.70710678f)));
    }
}

KERNEL(norm_gate_f32, NormGate, 128, 8) { norm_gate<float>(a); }
KERNEL(norm_gate_f16, NormGate, 128, 8) { norm_gate<half>(a); }
KERNEL(norm_gate_bf16, NormGate, 128, 8) { norm_gate<bfloat>(a); }
