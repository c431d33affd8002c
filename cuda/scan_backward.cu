// The backward scan. A thread owns one channel and walks its segment backwards, 16 tokens at a time and 4 states at a time:
// forward from the checkpoint, keeping the states in registers, then back with the adjoint g_t = C_t dy_t + a_{t+1} g_{t+1}.
// Sums over channels (gradients of B, C, dt) are taken through shared memory in a fixed order.
#include "scan_back.cuh"

enum { CHANNELS = 64, BLOCK = 4, HALF = CHUNK / 2, DV_PITCH = CHANNELS + 4, PLACE = 28 };  // floats of a Place

struct Scratch {
    float* sums;      // [bias, skip][64]
    float* adjoint;   // [4 blocks][64][4] carried over tokens
    float* dA;        // [4 blocks][64][4]
    float* products;  // [8 tokens][B, C][64][4], or [16 tokens][DV_PITCH]
};

typedef Staged<CHUNK, CHANNELS, CHANNELS> Tile;  // more: gradients of the weights

struct Tokens {  // of a thread's channel
    float s[CHUNK], su[CHUNK], dy[CHUNK];
    float gB[CHUNK], gA[CHUNK];  // sums over states of g B and of g a h A
};

// Where a block reads and writes, of token 0 and the block's first channel. Kept in shared memory: registers are short, and what
// lies behind a barrier is read again when it is needed.
template <class T> struct Place {
    Rows<T> rows;
    const T *x, *delta, *dy;
    const float *A, *bias, *saved;
    float *du, *ddelta, *dproj;
    int direction, plane, channels, begin, end;  // channels that there are; tokens
};

static_assert(sizeof(Place<float>) == PLACE * 4, "room of a Place");

template <class T> DEVICE Place<T> place_of(const ScanBackward& a, Part part) {
    int first = part.tile * CHANNELS, row = part.direction * a.channels + first;
    i64 of_batch = (i64)part.batch * a.length * a.channels + first;
    i64 sequence = (i64)part.batch * a.directions + part.direction;
    i64 plane = ((i64)part.plane * a.directions + part.direction) * a.batch + part.batch;
    i64 slab = ((i64)part.plane * ceil_div(a.channels, CHANNELS) + part.tile) * a.batch + part.batch;
    Place<T> p;
    p.rows = open_rows<T>(a, part);
    p.x = static_cast<const T*>(a.x) + of_batch;
    p.delta = a.delta ? static_cast<const T*>(a.delta) + of_batch : nullptr;
    p.dy = static_cast<const T*>(a.dy) + of_batch;
    p.A = a.A + (i64)row * a.states + part.plane * STATES;
    p.bias = a.dt_bias + row;
    p.saved = a.checkpoints + (sequence * ceil_div(a.length, CHUNK) * a.states + part.plane * STATES) * a.channels + first;
    p.du = a.parts + plane * a.length * a.channels + first;
    p.ddelta = a.ddelta ? a.ddelta + ((i64)part.plane * a.batch * a.length) * a.channels + of_batch : nullptr;
    p.dproj = a.dproj + (slab * a.length * a.directions + part.direction) * (a.rank + 2 * a.states);
    p.direction = part.direction, p.plane = part.plane;
    p.channels = a.channels - first;
    p.begin = part.segment * a.segment_tokens;
    p.end = min(p.begin + a.segment_tokens, a.length);
    return p;
}

struct Own {  // of a thread: its channel, from the block's first on
    int channel, count;  // and the tokens of the chunk, none where the channel is not its own
};

// The gradients of a token's projection.
template <class T> DEVICE float* dproj_of(const ScanBackward& a, const Place<T>* place, int token) {
    return at_row(place->dproj, token, a.directions * (a.rank + 2 * a.states) * 4);
}

// Returns the sum of dy u, the skip's gradient.
template <class T>
DEVICE float read_tokens(const ScanBackward& a, const Place<T>* place, Own own, Tile staged, Tokens& k) {
    float sum = 0.0f;
    Place<T> p = *place;
    steps_of(a, p.delta ? p.delta + own.channel : nullptr, load(p.bias + own.channel), staged, 0, k.s);
#pragma unroll
    for (int t = 0; t < CHUNK; ++t) {
        int bytes = a.channels * (int)sizeof(T), token = staged.tokens()[t];
        float u = load(at_row(p.x + own.channel, token, bytes)), dy = load(at_row(p.dy + own.channel, token, bytes));
        k.dy[t] = t < own.count ? dy : 0.0f;
        k.s[t] = t < own.count ? k.s[t] : 0.0f;
        k.su[t] = k.s[t] * u;
        k.gB[t] = k.gA[t] = 0.0f;
        sum = fmaf(k.dy[t], u, sum);
    }
    return sum;
}

// Sums the products of 8 tokens over the block's channels: 4 threads share the 4 states of a row, then each writes one.
template <class T>
DEVICE void sum_products(const ScanBackward& a, const Place<T>* place, Tile staged, const float* products, int q,
                         int left, int from, int count) {
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
    int column = a.rank + row % 2 * a.states + place->plane * STATES + q * BLOCK + quarter;
    if (t < count && quarter < left) store(dproj_of(a, place, staged.tokens()[t]) + column, mine);
}

// Four states over one chunk. The compiler keeps the exponentials of the way there for the way back, and runs out of registers:
// half of the way back takes one A anew, and with it its exponentials.
template <class T>
DEVICE void four_states(const ScanBackward& a, const Place<T>* place, Own thread, Tile staged, Scratch scratch, int q,
                        int chunk, int count, int left, Tokens& k) {
    const float* A_row = at_row(place->A, thread.channel, a.states * 4) + q * BLOCK;
    const float* saved = at_row(place->saved, chunk * a.states + q * BLOCK, a.channels * 4) + thread.channel;
    float A[BLOCK], start[BLOCK], g[BLOCK], dA[BLOCK] = {}, h[CHUNK][BLOCK];
    int own = (q * CHANNELS + threadIdx.x) * BLOCK;
#pragma unroll
    for (int n = 0; n < BLOCK; ++n) {
        A[n] = n < left ? LOG2_E * A_row[n] : 0.0f;
        start[n] = n < left ? *at_row(saved, n, a.channels * 4) : 0.0f;
    }
    load4(scratch.adjoint + own, g);
#pragma unroll
    for (int t = 0; t < CHUNK; ++t) {
        float B[BLOCK];
        load4(staged.bc() + t * 2 * STATES + q * BLOCK, B);
#pragma unroll
        for (int n = 0; n < BLOCK; ++n)
            h[t][n] = fmaf(exp2_fast(k.s[t] * A[n]), t ? h[t - 1][n] : start[n], k.su[t] * B[n]);
    }
#pragma unroll
    for (int from = HALF; from >= 0; from -= HALF) {
        if (from == 0) A[0] = LOG2_E * A_row[0];
#pragma unroll
        for (int t = from + HALF - 1; t >= from; --t) {
            float B[BLOCK], C[BLOCK], dB[BLOCK], dC[BLOCK];
            load4(staged.bc() + t * 2 * STATES + q * BLOCK, B);
            load4(staged.bc() + t * 2 * STATES + STATES + q * BLOCK, C);
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
        sum_products(a, place, staged, scratch.products, q, left, from, count);
        __syncthreads();
    }
    store4(scratch.adjoint + own, g);
    float before[BLOCK];
    load4(scratch.dA + own, before);  // not earlier: registers are short
    for (int n = 0; n < BLOCK; ++n) dA[n] += before[n];
    store4(scratch.dA + own, dA);
}

// Gradients of dt and its weights; dv [16][DV_PITCH] is complete before the barrier.
template <class T>
DEVICE void back_project(const ScanBackward& a, const Place<T>* place, Tile staged, Scratch scratch, int count,
                         const float (&dv)[CHUNK]) {
    for (int r = 0; r < a.rank; ++r) {
        float sum = staged.more(r)[threadIdx.x];
#pragma unroll
        for (int t = 0; t < CHUNK; t += 4) {
            float dt[4];
            load4(staged.dt(r) + t, dt);
#pragma unroll
            for (int j = 0; j < 4; ++j) sum = fmaf(dv[t + j], dt[j], sum);
        }
        staged.more(r)[threadIdx.x] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK * a.rank; i += CHANNELS) {
        int t = i % CHUNK, r = i / CHUNK;
        float sum = 0.0f;
#pragma unroll 4
        for (int d = 0; d < CHANNELS; d += 4) {
            float v[4], w[4];
            load4(scratch.products + t * DV_PITCH + d, v);
            load4(staged.weight(r) + d, w);
#pragma unroll
            for (int j = 0; j < 4; ++j) sum = fmaf(v[j], w[j], sum);
        }
        if (t < count) store(dproj_of(a, place, staged.tokens()[t]) + r, sum);
    }
}

// Gradients of x, the skip's included, and of the steps' projection; the sum of these over the chunk.
template <class T>
DEVICE float finish_tokens(const ScanBackward& a, const Place<T>* place, Own own, Tile staged, Scratch scratch,
                           int count, const Tokens& k) {
    Place<T> p = *place;
    float dv[CHUNK], sum = 0.0f, skip = 0.0f;
    if (p.plane == 0) skip = load(a.skip + (p.direction + 1) * a.channels - p.channels + own.channel);
#pragma unroll
    for (int t = 0; t < CHUNK; ++t) {
        bool live = t < own.count;
        int token = staged.tokens()[t];
        float slope = a.softplus ? softplus_slope(k.s[t]) : 1.0f;
        float u = load(at_row(p.x + own.channel, token, a.channels * (int)sizeof(T)));  // again: registers are short
        dv[t] = live ? slope * fmaf(u, k.gB[t], LN_2 * k.gA[t]) : 0.0f;
        sum += dv[t];
        scratch.products[t * DV_PITCH + threadIdx.x] = dv[t];
        if (live) store(at_row(p.du + own.channel, token, a.channels * 4), fmaf(skip, k.dy[t], k.s[t] * k.gB[t]));
        if (live && p.ddelta) store(at_row(p.ddelta + own.channel, token, a.channels * 4), dv[t]);
    }
    back_project(a, place, staged, scratch, count, dv);
    return sum;
}

// Other planes' states: this plane's share of their gradients is nothing.
template <class T> DEVICE void clear_others(const ScanBackward& a, const Place<T>* place, Tile staged, int count) {
    int plane = place->plane;
    for (int n = threadIdx.x; n < a.states; n += CHANNELS)
        for (int t = 0; n / STATES != plane && t < count; ++t) {
            float* row = dproj_of(a, place, staged.tokens()[t]) + a.rank + n;
            store(row, 0.0f);
            store(row + a.states, 0.0f);
        }
}

// The adjoint that later segments carry in; sums of nothing.
DEVICE void open_scratch(const ScanBackward& a, Part part, Tile staged, Scratch scratch) {
    float g[STATES] = {}, A[STATES];
    load_A(a, part, LOG2_E, A);
    fold(a, part, a.segments - 2, a.segments - 1 - part.segment, -1, A, g);
#pragma unroll
    for (int n = 0; n < STATES; ++n) {
        int own = (n / BLOCK * CHANNELS + threadIdx.x) * BLOCK + n % BLOCK;
        scratch.adjoint[own] = g[n];
        scratch.dA[own] = 0.0f;
    }
    for (int r = 0; r < a.rank; ++r) staged.more(r)[threadIdx.x] = 0.0f;
    scratch.sums[threadIdx.x] = scratch.sums[CHANNELS + threadIdx.x] = 0.0f;
}

DEVICE void write_parameters(const ScanBackward& a, Part part, Tile staged, Scratch scratch) {
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
    for (int r = 0; r < a.rank; ++r) out[row * a.rank + r] = staged.more(r)[threadIdx.x];
    out += all * a.rank;
    out[row] = scratch.sums[threadIdx.x];
    out[all + row] = part.plane ? 0.0f : scratch.sums[CHANNELS + threadIdx.x];
}

template <class T> DEVICE void scan_backward(const ScanBackward& a, float* shared) {
    Place<T>* place = reinterpret_cast<Place<T>*>(shared);
    float* sums = shared + PLACE;
    Scratch scratch = {sums, sums + 2 * CHANNELS, sums + (2 + STATES) * CHANNELS, sums + (2 + 2 * STATES) * CHANNELS};
    Tile staged = {scratch.products + HALF * 2 * CHANNELS * BLOCK};
    Part part = part_of<1>(a, a.segments, CHANNELS);
    open_weights(a, part, staged);
    open_scratch(a, part, staged, scratch);
    if (threadIdx.x == 0) *place = place_of<T>(a, part);
    __syncthreads();
    for (int chunk = (place->end - 1) / CHUNK; chunk * CHUNK >= place->begin; --chunk) {
        int count = min((int)CHUNK, place->end - chunk * CHUNK);
        int channels = place->channels, channel = min((int)threadIdx.x, channels - 1);
        Own own = {channel, (int)threadIdx.x < channels ? count : 0};
        stage(a, CHANNELS, place->direction, place->plane, place->rows, staged, chunk * CHUNK);
        Tokens k;
        scratch.sums[CHANNELS + threadIdx.x] += read_tokens(a, place, own, staged, k);
        clear_others(a, place, staged, count);
        int left = a.states - place->plane * STATES;
#pragma unroll 1
        for (int q = 0; q < STATES / BLOCK && left > 0; ++q, left -= BLOCK)
            four_states(a, place, own, staged, scratch, q, chunk, count, left, k);
        scratch.sums[threadIdx.x] += finish_tokens(a, place, own, staged, scratch, count, k);
    }
    write_parameters(a, part_of<1>(a, a.segments, CHANNELS), staged, scratch);
}

#define EXPORT(suffix, T)                                \
    KERNEL(scan_backward_##suffix, ScanBackward, 64, 4) { \
        SHARED(float, shared);                           \
        scan_backward<T>(a, shared);                     \
    }

EXPORT(f32, float)
EXPORT(f16, half)
EXPORT(bf16, bfloat)
