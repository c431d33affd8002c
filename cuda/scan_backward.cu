// The backward scan. A thread owns one channel and walks its segment backwards, 16 tokens at a time and 4 states at a time:
// forward from the checkpoint, keeping the states in registers, then back with the adjoint g_t = C_t dy_t + a_{t+1} g_{t+1}.
// Sums over channels (gradients of B, C, dt) are taken through shared memory in a fixed order.
#include "scan.cuh"

enum { CHANNELS = 64, BLOCK = 4, HALF = CHUNK / 2, PITCH = CHANNELS + 4 };
#define LN_2 0.6931471805599453f

struct Scratch {
    float* dweight;   // [R][64]
    float* adjoint;   // [4 blocks][64][4] carried over tokens
    float* dA;        // [4 blocks][64][4]
    float* products;  // [8 tokens][B, C][64][4], or [16 tokens][PITCH]
};

struct Tokens {  // of a thread's channel
    float s[CHUNK], su[CHUNK], dy[CHUNK];
    float gB[CHUNK], gA[CHUNK];  // sums over states of g B and of g a h A
};

// Where the gradients of a token's projection go.
DEVICE float* dproj_of(const ScanBackward& a, Part part, int token) {
    i64 slab = ((i64)part.plane * ceil_div(a.channels, CHANNELS) + part.tile) * a.batch + part.batch;
    return a.dproj + ((slab * a.length + token) * a.directions + part.direction) * (a.rank + 2 * a.states);
}

// Returns the sum of dy u, the skip's gradient.
template <class T>
DEVICE float read_tokens(const ScanBackward& a, Part part, const Channel<T>& c, Rows<CHUNK> rows, int count, Tokens& k) {
    float sum = 0.0f;
    const T* dy = static_cast<const T*>(a.dy) + (i64)part.batch * a.length * a.channels + part.channel;
    steps_of(a, c, rows, rows.tokens, 0, k.s);
#pragma unroll
    for (int t = 0; t < CHUNK; ++t) {
        int bytes = a.channels * (int)sizeof(T), token = rows.tokens[t];
        bool live = part.live && t < count;
        float u = live ? load(at_row(c.x, token, bytes)) : 0.0f;
        k.dy[t] = live ? load(at_row(dy, token, bytes)) : 0.0f;
        k.s[t] = t < count ? k.s[t] : 0.0f;
        k.su[t] = k.s[t] * u;
        k.gB[t] = k.gA[t] = 0.0f;
        sum = fmaf(k.dy[t], u, sum);
    }
    return sum;
}

// Sums the products of 8 tokens over the block's channels: 4 threads share the 4 states of a row, then each writes one.
DEVICE void sum_products(const ScanBackward& a, Part part, Rows<CHUNK> rows, const float* products, int state, int from,
                         int count) {
    int row = threadIdx.x / 4, quarter = threadIdx.x % 4, t = from + row / 2;
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < CHANNELS / 4; ++i) {  // turned by the thread's number: no two meet in a bank
        int channel = quarter * (CHANNELS / 4) + (i + threadIdx.x % 8) % (CHANNELS / 4);
        float v[4];
        load4(products + (row * CHANNELS + channel) * 4, v);
#pragma unroll
        for (int n = 0; n < 4; ++n) sum[n] += v[n];
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        sum[n] += __shfl_xor_sync(~0u, sum[n], 1);
        sum[n] += __shfl_xor_sync(~0u, sum[n], 2);
    }
    float mine = quarter < 2 ? (quarter ? sum[1] : sum[0]) : quarter == 2 ? sum[2] : sum[3];
    if (t < count && state + quarter < a.states)
        dproj_of(a, part, rows.tokens[t])[a.rank + row % 2 * a.states + state + quarter] = mine;
}

// Four states over one chunk.
DEVICE void four_states(const ScanBackward& a, Part part, Rows<CHUNK> rows, Scratch scratch, int q, i64 chunk, int count,
                        Tokens& k) {
    int state = part.plane * STATES + q * BLOCK, left = a.states - state;
    const float* A_row = a.A + (i64)(part.direction * a.channels + part.channel) * a.states + state;
    const float* saved = a.checkpoints + state_at(a, part, chunk) + (i64)q * BLOCK * a.channels;
    float A[BLOCK], start[BLOCK], g[BLOCK], dA[BLOCK], h[CHUNK][BLOCK];
    int own = (q * CHANNELS + threadIdx.x) * BLOCK;
#pragma unroll
    for (int n = 0; n < BLOCK; ++n) {
        A[n] = n < left ? LOG2_E * A_row[n] : 0.0f;
        start[n] = n < left ? saved[(i64)n * a.channels] : 0.0f;
    }
    load4(scratch.adjoint + own, g);
    load4(scratch.dA + own, dA);
#pragma unroll
    for (int t = 0; t < CHUNK; ++t) {
        float B[BLOCK];
        load4(rows.bc + t * 2 * STATES + q * BLOCK, B);
#pragma unroll
        for (int n = 0; n < BLOCK; ++n)
            h[t][n] = fmaf(exp2_fast(k.s[t] * A[n]), t ? h[t - 1][n] : start[n], k.su[t] * B[n]);
    }
#pragma unroll
    for (int from = HALF; from >= 0; from -= HALF) {
#pragma unroll
        for (int t = from + HALF - 1; t >= from; --t) {
            float B[BLOCK], C[BLOCK], dB[BLOCK], dC[BLOCK];
            load4(rows.bc + t * 2 * STATES + q * BLOCK, B);
            load4(rows.bc + t * 2 * STATES + STATES + q * BLOCK, C);
#pragma unroll
            for (int n = 0; n < BLOCK; ++n) {
                float now = fmaf(C[n], k.dy[t], g[n]);
                dC[n] = k.dy[t] * h[t][n];
                dB[n] = now * k.su[t];
                k.gB[t] = fmaf(now, B[n], k.gB[t]);
                g[n] = exp2_fast(k.s[t] * A[n]) * now;
                float w = g[n] * (t ? h[t - 1][n] : start[n]);
                k.gA[t] = fmaf(w, A[n], k.gA[t]);
                dA[n] = fmaf(k.s[t], w, dA[n]);
            }
            float* row = scratch.products + ((t - from) * 2 * CHANNELS + threadIdx.x) * BLOCK;
            store4(row, dB);
            store4(row + CHANNELS * BLOCK, dC);
        }
        __syncthreads();
        sum_products(a, part, rows, scratch.products, state, from, count);
        __syncthreads();
    }
    store4(scratch.adjoint + own, g);
    store4(scratch.dA + own, dA);
}

// Gradients of dt and its weights; dv [16][PITCH] is complete before the barrier.
DEVICE void back_project(const ScanBackward& a, Part part, Rows<CHUNK> rows, Scratch scratch, int count,
                         const float (&dv)[CHUNK]) {
    for (int r = 0; r < a.rank; ++r) {
        float sum = scratch.dweight[r * CHANNELS + threadIdx.x];
#pragma unroll
        for (int t = 0; t < CHUNK; t += 4) {
            float dt[4];
            load4(rows.dt + r * rows.STRIDE + t, dt);
#pragma unroll
            for (int j = 0; j < 4; ++j) sum = fmaf(dv[t + j], dt[j], sum);
        }
        scratch.dweight[r * CHANNELS + threadIdx.x] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK * a.rank; i += CHANNELS) {
        int t = i % CHUNK, r = i / CHUNK;
        float sum = 0.0f;
#pragma unroll 4
        for (int d = 0; d < CHANNELS; d += 4) {
            float v[4], w[4];
            load4(scratch.products + t * PITCH + d, v);
            load4(rows.weight + r * CHANNELS + d, w);
#pragma unroll
            for (int j = 0; j < 4; ++j) sum = fmaf(v[j], w[j], sum);
        }
        if (t < count) dproj_of(a, part, rows.tokens[t])[r] = sum;
    }
}

// Other planes' states: this plane's share of their gradients is nothing.
DEVICE void clear_others(const ScanBackward& a, Part part, Rows<CHUNK> rows, int count) {
    for (int n = threadIdx.x; n < a.states; n += CHANNELS)
        for (int t = 0; n / STATES != part.plane && t < count; ++t) {
            float* row = dproj_of(a, part, rows.tokens[t]) + a.rank + n;
            row[0] = row[a.states] = 0.0f;
        }
}

DEVICE void write_parameters(const ScanBackward& a, Part part, Scratch scratch, float dbias, float dskip) {
    i64 slab = ((i64)part.batch * a.segments + part.segment) * ceil_div(a.states, STATES) + part.plane;
    i64 all = (i64)a.directions * a.channels, row = part.direction * a.channels + part.channel;
    float* out = a.dparameters + slab * all * (a.states + a.rank + 2);
    if (!part.live) return;
    for (int n = 0; n < a.states; ++n) {
        int local = n - part.plane * STATES;
        bool own = local >= 0 && local < STATES;
        out[row * a.states + n] =
            own ? scratch.dA[(local / BLOCK * CHANNELS + threadIdx.x) * BLOCK + local % BLOCK] : 0.0f;
    }
    out += all * a.states;
    for (int r = 0; r < a.rank; ++r) out[row * a.rank + r] = scratch.dweight[r * CHANNELS + threadIdx.x];
    out += all * a.rank;
    out[row] = dbias;
    out[all + row] = part.plane ? 0.0f : dskip;
}

template <class T> DEVICE void scan_backward(const ScanBackward& a, float* shared) {
    Part part = part_of(a, a.segments);
    Rows<CHUNK> rows = carve_rows<CHUNK>(shared, a.rank);
    float* free = reinterpret_cast<float*>(rows.tokens + CHUNK);
    float* adjoint = free + a.rank * CHANNELS;
    Scratch scratch = {free, adjoint, adjoint + STATES * CHANNELS, adjoint + 2 * STATES * CHANNELS};
    Channel<T> c = open_channel<T>(a, part, rows);
    float g[STATES] = {}, dbias = 0.0f, dskip = 0.0f;
    fold(a, part, a.segments - 2, a.segments - 1 - part.segment, -1, c.A, g);
#pragma unroll
    for (int n = 0; n < STATES; ++n) {
        int own = (n / BLOCK * CHANNELS + threadIdx.x) * BLOCK + n % BLOCK;
        scratch.adjoint[own] = g[n];
        scratch.dA[own] = 0.0f;
    }
    for (int r = 0; r < a.rank; ++r) scratch.dweight[r * CHANNELS + threadIdx.x] = 0.0f;
    int begin = part.segment * a.segment_tokens, end = min(begin + a.segment_tokens, a.length);
    int blocks = min((int)STATES / BLOCK, ceil_div(a.states - part.plane * STATES, BLOCK));
    i64 sequence = (i64)part.batch * a.directions + part.direction;
    i64 plane = ((i64)part.plane * a.directions + part.direction) * a.batch + part.batch;
    float* du = a.parts + plane * a.length * a.channels + part.channel;
    float* ddelta = a.ddelta + ((i64)part.plane * a.batch + part.batch) * a.length * a.channels + part.channel;
    for (int chunk = (end - 1) / CHUNK; chunk * CHUNK >= begin; --chunk) {
        int count = min((int)CHUNK, end - chunk * CHUNK);
        __syncthreads();
        if (threadIdx.x < CHUNK)
            rows.tokens[threadIdx.x] = token_at(a, part.direction, chunk * CHUNK + (int)threadIdx.x);
        __syncthreads();
        stage<T>(a, part, rows, rows.tokens, count);
        __syncthreads();
        Tokens k;
        dskip += read_tokens(a, part, c, rows, count, k);
        clear_others(a, part, rows, count);
#pragma unroll 1
        for (int q = 0; q < blocks; ++q)
            four_states(a, part, rows, scratch, q, sequence * ceil_div(a.length, CHUNK) + chunk, count, k);
        float dv[CHUNK];
#pragma unroll
        for (int t = 0; t < CHUNK; ++t) {
            bool live = part.live && t < count;
            float slope = a.softplus ? softplus_slope(k.s[t]) : 1.0f;
            float u = load(at_row(c.x, rows.tokens[t], a.channels * (int)sizeof(T)));  // again: registers are short
            dv[t] = live ? slope * fmaf(u, k.gB[t], LN_2 * k.gA[t]) : 0.0f;
            dbias += dv[t];
            scratch.products[t * PITCH + threadIdx.x] = dv[t];
            if (live) *at_row(du, rows.tokens[t], a.channels * 4) = k.s[t] * k.gB[t];
            if (live && a.ddelta) *at_row(ddelta, rows.tokens[t], a.channels * 4) = dv[t];
        }
        back_project(a, part, rows, scratch, count, dv);
    }
    write_parameters(a, part, scratch, dbias, dskip);
}

#define EXPORT(suffix, T)                                \
    KERNEL(scan_backward_##suffix, ScanBackward, 64, 4) { \
        SHARED(float, shared);                           \
        scan_backward<T>(a, shared);                     \
    }

EXPORT(f32, float)
EXPORT(f16, half)
EXPORT(bf16, bfloat)
