// Adds partial results in a fixed order: out[i] = sum over p of parts[p * stride + i].
#include "common.cuh"

template <class T> DEVICE void scan_sum(const ScanSum& a) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.count) return;
    float sum = 0.0f;
#pragma unroll 4
    for (int p = 0; p < a.summands; ++p) sum += a.parts[p * a.stride + i];
    store(static_cast<T*>(a.out) + i, sum);
}

KERNEL(scan_sum_f32, ScanSum, 128, 8) { scan_sum<float>(a); }
KERNEL(scan_sum_f16, ScanSum, 128, 8) { scan_sum<half>(a); }
KERNEL(scan_sum_bf16, ScanSum, 128, 8) { scan_sum<bfloat>(a); }
