// What the scans share: which part a block owns, the order of tokens, rows of the projection in shared memory, steps.
// Legend and layouts: README.md.
#pragma once

#include "common.cuh"

enum {
    TILE = 32,     // tokens staged at a time by the sweeps
    STATES = 16,   // states a thread carries; more than 16 are shared out among blocks
    CHUNK = 16,    // tokens between checkpoints
    GROUP = 4,     // tokens whose steps are projected together
};
#define LOG2_E 1.4426950408889634f

struct Part {  // of a block, and the channel of a thread; a channel beyond D repeats the last one and stores nothing
    int batch, direction, segment, tile, channel;
    int plane;  // of the M blocks of 16 states
    bool live;
};

template <class Arguments> DEVICE Part part_of(const Arguments& a, int segments) {
    int tiles = ceil_div(a.channels, (int)blockDim.x), planes = ceil_div(a.states, STATES);
    int index = blockIdx.x, tile = index % tiles;
    index /= tiles;
    int plane = index % planes;
    index /= planes;
    int segment = index % segments;
    index /= segments;
    int channel = tile * blockDim.x + threadIdx.x;
    bool live = channel < a.channels;
    return {index / a.directions, index % a.directions, segment, tile, min(channel, a.channels - 1), plane, live};
}

// Row-major number of the token that direction k visits t-th; past the end, of the last one.
template <class Arguments> DEVICE int token_at(const Arguments& a, int k, int t) {
    t = min(t, a.length - 1);
    int u = k >= 2 ? a.length - 1 - t : t;
    return k & 1 ? (u % a.height) * a.width + u / a.height : u;
}

// Element of a table whose rows are `bytes` apart: one instruction where an index in elements takes three.
template <class T> DEVICE T* at_row(T* base, int row, int bytes) {
    return reinterpret_cast<T*>(reinterpret_cast<unsigned long long>(base) + (i64)row * bytes);
}

// log(1 + e^v), linear where torch is; log(1 + e) / e by a polynomial on [0, 1], relative error 3.5e-7.
DEVICE float softplus(float v) {
    float e = exp2_fast(-LOG2_E * fabsf(v));
    float p = fmaf(-0.00853920635f, e, 0.0440896228f);
    p = fmaf(p, e, -0.1076816991f);
    p = fmaf(p, e, 0.1774524003f);
    p = fmaf(p, e, -0.2449546307f);
    p = fmaf(p, e, 0.3327547908f);
    p = fmaf(p, e, -0.4999740422f);
    p = fmaf(p, e, 0.9999998212f);
    return fmaf(p, e, fmaxf(v, 0.0f));
}

// Derivative of softplus where its value is s: 1 - e^-s, by its series where that would cancel.
DEVICE float softplus_slope(float s) {
    float small = s * fmaf(s, fmaf(s, 0.166666667f, -0.5f), 1.0f);
    return s < 0.03f ? small : 1.0f - exp2_fast(-LOG2_E * s);
}

// Shared memory of a block that reads TOKENS tokens at a time.
template <int TOKENS> struct Rows {
    enum { STRIDE = TOKENS + 4 };  // of dt: a multiple of 4 that spreads ranks over banks
    float* bc;                     // [TOKENS][B 16 | C 16]
    float* dt;                     // [R][STRIDE]
    float* weight;                 // [R][threads]
    int* tokens;                   // [2][TOKENS], row-major numbers, of this tile and of the next
};

template <int TOKENS> DEVICE Rows<TOKENS> carve_rows(float* shared, int rank) {
    float* dt = shared + TOKENS * 2 * STATES;
    float* weight = dt + rank * (TOKENS + 4);
    return {shared, dt, weight, reinterpret_cast<int*>(weight + rank * (int)blockDim.x)};
}

// Rows of `count` tokens as floats; zero after them and for states beyond N.
template <class T, int TOKENS, class Arguments>
DEVICE void stage(const Arguments& a, Part part, Rows<TOKENS> rows, const int* tokens, int count) {
    int row_length = a.rank + 2 * a.states, lane = threadIdx.x % 32, state = part.plane * STATES + lane % STATES;
    int column = a.rank + state + lane / STATES * a.states;
    const T* proj = static_cast<const T*>(a.proj) +
                    ((i64)part.batch * a.length * a.directions + part.direction) * row_length;
#pragma unroll 4
    for (int t = threadIdx.x / 32; t < TOKENS; t += blockDim.x / 32) {
        const T* row = proj + (i64)tokens[t] * (a.directions * row_length);
        rows.bc[t * 2 * STATES + lane] = t < count && state < a.states ? load(row + column) : 0.0f;
        for (int r = lane; r < a.rank; r += 32) rows.dt[r * rows.STRIDE + t] = t < count ? load(row + r) : 0.0f;
    }
}

// Constants of a thread's channel in one direction.
template <class T> struct Channel {
    const T* x;      // of token 0
    const T* delta;  // of token 0, or null
    float bias;
    float A[STATES];  // times log2 e, 0 beyond N
};

template <class T, int TOKENS, class Arguments>
DEVICE Channel<T> open_channel(const Arguments& a, Part part, Rows<TOKENS> rows) {
    i64 start = (i64)part.batch * a.length * a.channels + part.channel;
    int row = part.direction * a.channels + part.channel;
    for (int r = 0; r < a.rank; ++r)
        rows.weight[r * blockDim.x + threadIdx.x] = a.dt_weight[(i64)row * a.rank + r];
    const float* A = a.A + (i64)row * a.states;
    Channel<T> c = {static_cast<const T*>(a.x) + start, a.delta ? static_cast<const T*>(a.delta) + start : nullptr,
                    a.dt_bias[row]};
#pragma unroll
    for (int n = 0; n < STATES; ++n) {
        int state = part.plane * STATES + n;
        c.A[n] = state < a.states ? LOG2_E * A[state] : 0.0f;
    }
    return c;
}

// Steps of COUNT tokens, from `t` on in the tile.
template <class T, int TOKENS, int COUNT, class Arguments>
DEVICE void steps_of(const Arguments& a, const Channel<T>& c, Rows<TOKENS> rows, const int* tokens, int t,
                     float (&s)[COUNT]) {
#pragma unroll
    for (int j = 0; j < COUNT; ++j)
        s[j] = c.delta ? c.bias + load(at_row(c.delta, tokens[t + j], a.channels * (int)sizeof(T))) : c.bias;
#pragma unroll 1
    for (int r = 0; r < a.rank; ++r) {
        float w = rows.weight[r * blockDim.x + threadIdx.x];
#pragma unroll
        for (int q = 0; q < COUNT; q += 4) {
            float dt[4];
            load4(rows.dt + r * rows.STRIDE + t + q, dt);
#pragma unroll
            for (int j = 0; j < 4; ++j) s[q + j] = fmaf(w, dt[j], s[q + j]);
        }
    }
    if (a.softplus) {
#pragma unroll
        for (int j = 0; j < COUNT; ++j) s[j] = softplus(s[j]);
    }
}

// Number of a segment's summary in `steps`, and of its first state in `ends`, for this thread's channel.
template <class Arguments> DEVICE i64 summary_at(const Arguments& a, Part part, int segment) {
    return ((i64)part.batch * a.directions + part.direction) * (a.segments - 1) + segment;
}
template <class Arguments> DEVICE i64 state_at(const Arguments& a, Part part, i64 row) {
    return (row * a.states + part.plane * STATES) * a.channels + part.channel;
}

// The states of a thread's channel, which lie D apart.
template <class Arguments> DEVICE void save(const Arguments& a, Part part, float* to, const float (&h)[STATES]) {
    int left = part.live ? a.states - part.plane * STATES : 0;
#pragma unroll
    for (int n = 0; n < STATES; ++n, to += a.channels)
        if (n < left) *to = h[n];
}

// The state that this segment starts from: `count` earlier ones, whose summaries lie `stride` segments apart, one after another.
template <class Arguments>
DEVICE void fold(const Arguments& a, Part part, int from, int count, int stride, const float (&A)[STATES],
                 float (&h)[STATES]) {
    int left = a.states - part.plane * STATES;
    for (int j = 0; j < count; ++j) {
        i64 row = summary_at(a, part, from + j * stride);
        float step = a.steps[row * a.channels + part.channel];
        const float* end = a.ends + state_at(a, part, row);
#pragma unroll
        for (int n = 0; n < STATES; ++n, end += a.channels)
            h[n] = fmaf(exp2_fast(step * A[n]), h[n], n < left ? *end : 0.0f);
    }
}
