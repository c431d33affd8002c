// The one argument of every kernel: a struct by value, pointers first, then 64-bit, then 32-bit numbers.
// The launcher packs the same fields in the same order; sizes and names are compared by tests.
// Legend and layouts: README.md, "Interface".
#pragma once

typedef long long i64;

struct ScanForward {  // scan_summary_*, scan_forward_*, scan_sweep*
    const void* x;           // (B, L, D) T
    const void* delta;       // (B, L, D) T, or null: steps are projected
    const void* proj;        // (B, L, K, R + 2N) T
    const float* dt_weight;  // (K, D, R)
    const float* dt_bias;    // (K, D)
    const float* A;          // (K, D, N)
    const float* skip;       // (K, D)
    float* ends;             // (B, K, S - 1, N, D), null when S = 1
    float* steps;            // (B, K, S - 1, D), null when S = 1
    float* parts;            // (M, K, B, L, D) output, tokens row-major; (2, B, L, D) of the sweeps
    float* checkpoints;      // (B, K, ceil(L / 16), N, D) state before every 16 tokens, or null
    int batch, length, channels, states, rank, directions, height, width, softplus, segments, segment_tokens, pad_;
};
static_assert(sizeof(ScanForward) == 11 * 8 + 12 * 4, "packed as the launcher does");

struct ScanBackward {  // scan_adjoint_*, scan_backward_*
    const void* dy;            // (B, L, D) T
    const void* x;             // as in ScanForward, down to skip
    const void* delta;
    const void* proj;
    const float* dt_weight;
    const float* dt_bias;
    const float* A;
    const float* skip;
    const float* checkpoints;  // as written by scan_forward_*
    float* ends;               // (B, K, S - 1, N, D), null when S = 1
    float* steps;              // (B, K, S - 1, D), null when S = 1
    float* parts;              // (M, K, B, L, D) gradient of x
    float* ddelta;             // (M, B, L, D), null when delta is
    float* dproj;              // (M, tiles64, B, L, K, R + 2N)
    float* dparameters;        // (B, S, M, Q): [A (K, D, N) | dt_weight (K, D, R) | dt_bias (K, D) | skip (K, D)]
    int batch, length, channels, states, rank, directions, height, width, softplus, segments, segment_tokens, pad_;
};
static_assert(sizeof(ScanBackward) == 15 * 8 + 12 * 4, "packed as the launcher does");

struct ScanSum {  // scan_sum_*: out[i] = sum over p of parts[p * stride + i]
    const float* parts;
    void* out;            // (count,) T
    i64 count, stride;    // elements
    int summands, pad_;
};
static_assert(sizeof(ScanSum) == 4 * 8 + 2 * 4, "packed as the launcher does");

struct NormGate {  // norm_gate_*: out = layer_norm(sum of parts) * gelu(gate)
    const float* parts;   // (planes, tokens, D)
    const float* weight;  // (D,)
    const float* bias;    // (D,)
    const void* gate;     // (tokens, D) T, rows gate_stride elements apart
    void* out;            // (tokens, D) T
    i64 tokens, gate_stride;
    int channels, planes, pad_;
    float eps;
};
static_assert(sizeof(NormGate) == 7 * 8 + 4 * 4, "packed as the launcher does");
