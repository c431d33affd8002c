// What the scans share: which part a block owns, the order of tokens, rows of the projection in shared memory, steps.
// Legend and layouts: README.md.
#pragma once

#include "common.cuh"

enum {
    TILE = 32,     // tokens staged at a time by the sweeps
    STATES = 16,   // states of a block; more than 16 are shared out among blocks
    CHUNK = 16,    // tokens between checkpoints
};
#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

struct Part {  // of a block, and the channel of a thread; a channel beyond D repeats the last one and stores nothing
    int batch, direction, segment, tile, channel;
    int plane;  // of the M blocks of 16 states
    int state;  // the thread's first
    bool live;
};

// LANES threads share a channel and divide its states; a block has so many channels.
template <int LANES, class Arguments> DEVICE Part part_of(const Arguments& a, int segments, int channels) {
    int tiles = ceil_div(a.channels, channels), planes = ceil_div(a.states, STATES);
    int index = blockIdx.x, tile = index % tiles;
    index /= tiles;
    int plane = index % planes;
    index /= planes;
    int segment = index % segments;
    index /= segments;
    int channel = tile * channels + threadIdx.x / LANES;
    int state = plane * STATES + threadIdx.x % LANES * (STATES / LANES);
    bool live = channel < a.channels;
    return {index / a.directions, index % a.directions, segment, tile, min(channel, a.channels - 1), plane, state, live};
}

// Row-major number of the token that direction k visits t-th; past the end, of the last one.
template <class Arguments> DEVICE int token_at(const Arguments& a, int k, int t) {
    t = min(t, a.length - 1);
    int u = k >= 2 ? a.length - 1 - t : t;
    return k & 1 ? (u % a.height) * a.width + u / a.height : u;
}

// log2(1 + 2^v); log2(1 + e) / e by a polynomial on [0, 1], relative error 3.5e-7.
DEVICE float softplus2(float v) {
    float e = exp2_fast(-fabsf(v));
    float p = fmaf(-0.0123194704f, e, 0.0636078806f);
    p = fmaf(p, e, -0.155351852f);
    p = fmaf(p, e, 0.25600969f);
    p = fmaf(p, e, -0.353394829f);
    p = fmaf(p, e, 0.480063689f);
    p = fmaf(p, e, -0.721310108f);
    p = fmaf(p, e, 1.44269478f);
    return fmaf(p, e, fmaxf(v, 0.0f));
}

// log(1 + e^v), linear where torch is.
DEVICE float softplus(float v) { return LN_2 * softplus2(LOG2_E * v); }

// Derivative of softplus where its value is s: 1 - e^-s, by its series where that would cancel.
DEVICE float softplus_slope(float s) {
    float small = s * fmaf(s, fmaf(s, 0.166666667f, -0.5f), 1.0f);
    return s < 0.03f ? small : 1.0f - exp2_fast(-LOG2_E * s);
}

// The rows of the projection that a block reads.
template <class T> struct Rows {
    const T* first;  // of token 0
    int bytes;       // between tokens
};

template <class T, class Arguments> DEVICE Rows<T> open_rows(const Arguments& a, Part part) {
    int length = a.rank + 2 * a.states;
    const T* all = static_cast<const T*>(a.proj);
    return {all + ((i64)part.batch * a.length * a.directions + part.direction) * length,
            a.directions * length * (int)sizeof(T)};
}

// B, times `scale`, and C of TOKENS tokens into bc [TOKENS][B 16 | C 16]; zero for states beyond N. By so many threads.
template <int TOKENS, class T, class Arguments>
DEVICE void stage_states(const Arguments& a, unsigned thread, unsigned threads, int plane, Rows<T> rows, const int* tokens,
                         float scale, float* bc) {
    int lane = thread % 32, first = thread / 32 * 4, apart = threads / 8, state = plane * STATES + lane % STATES;
    const T* row = rows.first + a.rank + min(state, a.states - 1) + lane / STATES * a.states;
    float factor = state < a.states ? lane < STATES ? scale : 1.0f : 0.0f;
    tokens += first, bc += first * 2 * STATES + lane;
#pragma unroll 1
    for (int t = first; t < TOKENS; t += apart, tokens += apart, bc += apart * 2 * STATES) {
        int token[4];
        float v[4];
        load4(tokens, token);
        for (int j = 0; j < 4; ++j) v[j] = load(at_row(row, token[j], rows.bytes));
        for (int j = 0; j < 4; ++j) bc[j * 2 * STATES] = factor * v[j];
    }
}

// dt of TOKENS tokens, rank r of token thread % TOKENS at dt[r * pitch + place].
template <int TOKENS, class T>
DEVICE void stage_dt(unsigned thread, unsigned threads, int rank, Rows<T> rows, const int* tokens, int pitch, int place,
                     float* dt) {
    const T* row = at_row(rows.first, tokens[thread % TOKENS], rows.bytes);
#pragma unroll 1
    for (int r = thread / TOKENS; r < rank; r += threads / TOKENS) dt[r * pitch + place] = load(row + r);
}

// COUNT states of a thread's channel, times log2 e; 0 beyond N.
template <int COUNT, class Arguments> DEVICE void load_A(const Arguments& a, Part part, float scale, float (&A)[COUNT]) {
    const float* row = a.A + (i64)(part.direction * a.channels + part.channel) * a.states + part.state;
#pragma unroll
    for (int n = 0; n < COUNT; ++n) A[n] = part.state + n < a.states ? scale * row[n] : 0.0f;
}

// Number of a segment's summary in `steps`, and of its first state in `ends`, for this thread's channel.
template <class Arguments> DEVICE i64 summary_at(const Arguments& a, Part part, int segment) {
    return ((i64)part.batch * a.directions + part.direction) * (a.segments - 1) + segment;
}
template <class Arguments> DEVICE i64 state_at(const Arguments& a, Part part, i64 row) {
    return (row * a.states + part.state) * a.channels + part.channel;
}

// What skips the scan, of a direction and channel; the first states' alone.
template <class Arguments> DEVICE float skip_of(const Arguments& a, Part part) {
    return part.plane ? 0.0f : a.skip[part.direction * a.channels + part.channel];
}

// The states of a thread, which lie D apart.
template <int COUNT, class Arguments>
DEVICE void save(const Arguments& a, Part part, float* to, const float (&h)[COUNT]) {
    int left = part.live ? a.states - part.state : 0;
#pragma unroll
    for (int n = 0; n < COUNT; ++n, to += a.channels)
        if (n < left) *to = h[n];
}

// The state that this segment starts from: `count` earlier ones, whose summaries lie `stride` segments apart, one after another.
template <int COUNT, class Arguments>
DEVICE void fold(const Arguments& a, Part part, int from, int count, int stride, const float (&A)[COUNT],
                 float (&h)[COUNT]) {
    int left = a.states - part.state;
#pragma unroll 4
    for (int j = 0; j < count; ++j) {
        i64 row = summary_at(a, part, from + j * stride);
        float step = a.steps[row * a.channels + part.channel];
        const float* end = a.ends + state_at(a, part, row);
#pragma unroll
        for (int n = 0; n < COUNT; ++n, end += a.channels)
            h[n] = fmaf(exp2_fast(step * A[n]), h[n], n < left ? *end : 0.0f);
    }
}

// The sum over a thread and the one `lanes` away: of a where the lower one asks, of b where the upper.
DEVICE float sum_of_two(float a, float b, int lanes) {
    bool upper = threadIdx.x & lanes;
    return (upper ? b : a) + __shfl_xor_sync(~0u, upper ? a : b, lanes);
}

// Of as many sums over the threads that share a channel as there are such threads, the one with this thread's number.
DEVICE float sum_over_lanes(const float (&y)[1]) { return y[0]; }
DEVICE float sum_over_lanes(const float (&y)[2]) { return sum_of_two(y[0], y[1], 1); }
DEVICE float sum_over_lanes(const float (&y)[4]) {
    return sum_of_two(sum_of_two(y[0], y[1], 1), sum_of_two(y[2], y[3], 1), 2);
}
