// Adds partial results in a fixed order: out[i] = sum over p of parts[p * stride + i]. A thread owns four elements, so that
// enough loads are under way.
#include "common.cuh"

enum { EACH = 4, THREADS = 128 };

template <class T> DEVICE void scan_sum(const ScanSum& a) {
    i64 first = (i64)blockIdx.x * (EACH * THREADS) + threadIdx.x;
    float sum[EACH] = {};
#pragma unroll 2
    for (int p = 0; p < a.summands; ++p)
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
            i64 i = first + j * THREADS;
            if (i < a.count) sum[j] += load(a.parts + p * a.stride + i);
        }
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
        i64 i = first + j * THREADS;
        if (i < a.count) store(static_cast<T*>(a.out) + i, sum[j]);
    }
}

KERNEL(scan_sum_f32, ScanSum, 128, 8) { scan_sum<float>(a); }
KERNEL(scan_sum_f16, ScanSum, 128, 8) { scan_sum<half>(a); }
KERNEL(scan_sum_bf16, ScanSum, 128, 8) { scan_sum<bfloat>(a); }
