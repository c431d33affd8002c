// Adds what the directions computed, in a fixed order, and the skip: out = sum parts + (sum skip) values. A warp owns a token.
#include "merge.cuh"

template <class T> DEVICE void scan_merge(const ScanMerge& a) {
    i64 token = (i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (token < a.tokens)
        for (int d = threadIdx.x % 32; d < a.channels; d += 32)
            store(static_cast<T*>(a.out) + token * a.channels + d, merged<T>(a, token, d));
}

KERNEL(scan_merge_f32, ScanMerge, 128, 8) { scan_merge<float>(a); }
KERNEL(scan_merge_f16, ScanMerge, 128, 8) { scan_merge<half>(a); }
KERNEL(scan_merge_bf16, ScanMerge, 128, 8) { scan_merge<bfloat>(a); }
