// The forward scan. A thread owns one channel and keeps 16 states in registers; a block walks its segment of the sequence
// in tiles, whose B, C and dt it shares. With several segments, scan_summary first finds what each adds to the state
// from nothing, and every block of scan_forward folds those before its own.
#include "scan.cuh"

// One token: advance the states, return C . h.
DEVICE float advance(const float* bc, const float (&A)[STATES], float s, float u, float (&h)[STATES]) {
    float su = s * u, y = 0.0f;
#pragma unroll
    for (int q = 0; q < STATES; q += 4) {
        float B[4], C[4];
        load4(bc + q, B);
        load4(bc + STATES + q, C);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            h[q + n] = fmaf(exp2_fast(s * A[q + n]), h[q + n], su * B[n]);
            y = fmaf(C[n], h[q + n], y);
        }
    }
    return y;
}

template <class T> DEVICE void load_group(const T* x, const int* tokens, int channels, float (&u)[GROUP]) {
    int token[GROUP];
    load4(tokens, token);
#pragma unroll
    for (int j = 0; j < GROUP; ++j) u[j] = load(at_row(x, token[j], channels * (int)sizeof(T)));
}

template <class T, bool SUMMARY> DEVICE void scan(const ScanForward& a, float* shared) {
    Part part = part_of(a, SUMMARY ? a.segments - 1 : a.segments);
    Rows<TILE> rows = carve_rows<TILE>(shared, a.rank);
    Channel<T> c = open_channel<T>(a, part, rows);
    int begin = part.segment * a.segment_tokens, end = min(begin + a.segment_tokens, a.length);
    int sequence = part.batch * a.directions + part.direction, chunks = ceil_div(a.length, CHUNK);
    i64 plane = ((i64)part.plane * a.directions + part.direction) * a.batch + part.batch;
    float* y = a.parts + plane * a.length * a.channels + part.channel;
    float h[STATES] = {}, u[GROUP], total = 0.0f;
    if (!SUMMARY) fold(a, part, 0, part.segment, 1, c.A, h);
    if (threadIdx.x < TILE) rows.tokens[threadIdx.x] = token_at(a, part.direction, begin + (int)threadIdx.x);
    __syncthreads();
    load_group(c.x, rows.tokens, a.channels, u);
    for (int t0 = begin; t0 < end; t0 += TILE) {
        int here = (t0 - begin) & TILE, there = TILE - here;
        const int* tokens = rows.tokens + here;
        if (threadIdx.x < TILE)
            rows.tokens[there + threadIdx.x] = token_at(a, part.direction, t0 + TILE + (int)threadIdx.x);
        stage<T>(a, part, rows, tokens, end - t0);
        __syncthreads();
        for (int t = 0; t < TILE && t0 + t < end; t += CHUNK) {
            if (!SUMMARY && a.checkpoints)
                save(a, part, a.checkpoints + state_at(a, part, (i64)sequence * chunks + (t0 + t) / CHUNK), h);
#pragma unroll 1
            for (int g = t; g < t + CHUNK; g += GROUP) {
                float s[GROUP], next[GROUP];
                load_group(c.x, rows.tokens + (here + g + GROUP) % (2 * TILE), a.channels, next);
                steps_of(a, c, rows, tokens, g, s);
#pragma unroll
                for (int j = 0; j < GROUP; ++j) {
                    float sum = advance(rows.bc + (g + j) * 2 * STATES, c.A, s[j], u[j], h);
                    u[j] = next[j];
                    total += s[j];
                    if (!SUMMARY && part.live && t0 + g + j < end) *at_row(y, tokens[g + j], a.channels * 4) = sum;
                }
            }
        }
        __syncthreads();
    }
    if (SUMMARY) {
        i64 row = summary_at(a, part, part.segment);
        save(a, part, a.ends + state_at(a, part, row), h);
        if (part.live && part.plane == 0) a.steps[row * a.channels + part.channel] = total;
    }
}

#define EXPORT(suffix, T)                                \
    KERNEL(scan_summary_##suffix, ScanForward, 128, 5) { \
        SHARED(float, shared);                           \
        scan<T, true>(a, shared);                        \
    }                                                    \
    KERNEL(scan_forward_##suffix, ScanForward, 128, 5) { \
        SHARED(float, shared);                           \
        scan<T, false>(a, shared);                       \
    }

EXPORT(f32, float)
EXPORT(f16, half)
EXPORT(bf16, bfloat)
