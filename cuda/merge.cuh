// The sum over directions at one token and channel, for scan_merge and norm_gate.
#pragma once

#include "common.cuh"

template <class T, class Arguments> DEVICE float merged(const Arguments& a, i64 token, int d) {
    i64 at = token * a.channels + d, plane = a.tokens * a.channels;
    float sum = 0.0f, skip = 0.0f;
#pragma unroll 4
    for (int p = 0; p < a.planes; ++p) sum += a.parts[p * plane + at];
#pragma unroll 4
    for (int k = 0; k < a.directions; ++k) skip += a.skip[k * a.channels + d];
    return fmaf(skip, load(static_cast<const T*>(a.values) + at), sum);
}
