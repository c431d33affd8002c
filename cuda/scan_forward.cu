// The forward scan of any shape. Four threads share a channel, four states each: enough threads for small batches without
// splitting the sequence. Each takes the steps of every fourth token, hands them round, and sums C . h of it over the four.
// With several segments, scan_summary first finds what each adds to the state from nothing, and every block of scan_forward
// folds those before its own. Large grids of maps: scan_sweep.cu.
#include "scan.cuh"

enum {
    LANES = 4,             // threads that share a channel
    OWN = STATES / LANES,  // states of a thread
    SPAN = 8,              // tokens whose steps are projected together
    TURNS = SPAN / LANES,  // of them, a thread's
};

struct Staged {     // in shared memory
    int* tokens;    // [2][TILE], row-major numbers, of this tile and of the next
    float* bc;      // [TILE][B 16, times ln 2 | C 16]
    float* dt;      // [TILE][pitch], zero beyond R
    float* weight;  // [channels][pitch], times log2 e; this thread's
    int ranks, pitch;  // R as a multiple of 4; of rows, 4 times an odd number: no two meet in a bank
};

template <class T> struct Channel {
    const T* x;      // of token 0
    const T* delta;  // of token 0, or null
    float bias;      // times log2 e
    float skip;
    float A[OWN];
};

DEVICE Staged carve(float* shared, int rank) {
    int ranks = ceil_div(rank, 4), pitch = 4 * (ranks | 1);
    float *bc = shared + 2 * TILE, *dt = bc + TILE * 2 * STATES, *weight = dt + TILE * pitch;
    return {reinterpret_cast<int*>(shared), bc, dt, weight + threadIdx.x / LANES * pitch, 4 * ranks, pitch};
}

template <class T> DEVICE Channel<T> open_channel(const ScanForward& a, Part part, Staged staged) {
    i64 start = (i64)part.batch * a.length * a.channels + part.channel;
    int row = part.direction * a.channels + part.channel;
    for (int r = threadIdx.x % LANES; r < staged.ranks; r += LANES)
        staged.weight[r] = r < a.rank ? LOG2_E * a.dt_weight[(i64)row * a.rank + r] : 0.0f;
    for (int i = threadIdx.x; i < TILE * staged.pitch; i += blockDim.x) staged.dt[i] = 0.0f;
    Channel<T> c = {static_cast<const T*>(a.x) + start, a.delta ? static_cast<const T*>(a.delta) + start : nullptr,
                    LOG2_E * a.dt_bias[row], skip_of(a, part)};
    load_A(a, part, 1.0f, c.A);
    return c;
}

template <class T> DEVICE void load_turns(const T* x, const int* tokens, int bytes, float (&u)[TURNS]) {
#pragma unroll
    for (int j = 0; j < TURNS; ++j) u[j] = load(at_row(x, tokens[j * LANES + threadIdx.x % LANES], bytes));
}

// log2 e times the steps of this thread's tokens of a span that begins at `t` in the tile.
template <class T>
DEVICE void steps_of(const ScanForward& a, const Channel<T>& c, Staged staged, const int* tokens, int t,
                     float (&s)[TURNS]) {
#pragma unroll
    for (int j = 0; j < TURNS; ++j) s[j] = c.bias;
    if (c.delta) {
        float delta[TURNS];
        load_turns(c.delta, tokens + t, a.channels * (int)sizeof(T), delta);
#pragma unroll
        for (int j = 0; j < TURNS; ++j) s[j] = fmaf(LOG2_E, delta[j], s[j]);
    }
    const float* row = staged.dt + (t + threadIdx.x % LANES) * staged.pitch;
#pragma unroll 1
    for (int r = 0; r < staged.ranks; r += 4) {
        float w[4];
        load4(staged.weight + r, w);
#pragma unroll
        for (int j = 0; j < TURNS; ++j) {
            float dt[4];
            load4(row + j * LANES * staged.pitch + r, dt);
#pragma unroll
            for (int i = 0; i < 4; ++i) s[j] = fmaf(w[i], dt[i], s[j]);
        }
    }
    if (a.softplus) {
#pragma unroll
        for (int j = 0; j < TURNS; ++j) s[j] = softplus2(s[j]);
    }
}

// LANES tokens: advance the states; C . h of this thread's token.
template <bool SUMMARY> DEVICE float advance(const float* bc, const float (&A)[OWN], float s, float su, float (&h)[OWN]) {
    float y[LANES];
#pragma unroll
    for (int j = 0; j < LANES; ++j, bc += 2 * STATES) {
        float B[OWN], C[OWN], step = __shfl_sync(~0u, s, j, LANES), input = __shfl_sync(~0u, su, j, LANES);
        load4(bc, B);
        if (!SUMMARY) load4(bc + STATES, C);
        y[j] = 0.0f;
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
            h[n] = fmaf(exp2_fast(step * A[n]), h[n], input * B[n]);
            if (!SUMMARY) y[j] = fmaf(C[n], h[n], y[j]);
        }
    }
    return SUMMARY ? 0.0f : sum_over_lanes(y);
}

template <class T, bool SUMMARY> DEVICE void scan(const ScanForward& a, float* shared) {
    Part part = part_of<LANES>(a, SUMMARY ? a.segments - 1 : a.segments, blockDim.x / LANES);
    Staged staged = carve(shared, a.rank);
    Channel<T> c = open_channel<T>(a, part, staged);
    Rows<T> rows = open_rows<T>(a, part);
    int begin = part.segment * a.segment_tokens, end = min(begin + a.segment_tokens, a.length);
    int sequence = part.batch * a.directions + part.direction, chunks = ceil_div(a.length, CHUNK);
    int bytes = a.channels * (int)sizeof(T), lane = threadIdx.x % LANES;
    i64 plane = ((i64)part.plane * a.directions + part.direction) * a.batch + part.batch;
    float* y = a.parts + plane * a.length * a.channels + part.channel;
    float h[OWN] = {}, u[TURNS], total = 0.0f;
    if (!SUMMARY) fold(a, part, 0, part.segment, 1, c.A, h);
    if (threadIdx.x < TILE) staged.tokens[threadIdx.x] = token_at(a, part.direction, begin + (int)threadIdx.x);
    __syncthreads();
    load_turns(c.x, staged.tokens, bytes, u);
    for (int t0 = begin; t0 < end; t0 += TILE) {
        int here = (t0 - begin) & TILE;
        const int* tokens = staged.tokens + here;
        if (threadIdx.x < TILE)
            staged.tokens[(here ^ TILE) + threadIdx.x] = token_at(a, part.direction, t0 + TILE + (int)threadIdx.x);
        stage_states<TILE>(a, threadIdx.x, blockDim.x, part.plane, rows, tokens, LN_2, staged.bc);
        stage_dt<TILE>(threadIdx.x, blockDim.x, a.rank, rows, tokens, 1, threadIdx.x % TILE * staged.pitch, staged.dt);
        __syncthreads();
        for (int t = 0; t < TILE && t0 + t < end; t += CHUNK) {
            if (!SUMMARY && a.checkpoints)
                save(a, part, a.checkpoints + state_at(a, part, (i64)sequence * chunks + (t0 + t) / CHUNK), h);
#pragma unroll 1
            for (int g = t; g < t + CHUNK; g += SPAN) {
                float s[TURNS], su[TURNS], skipped[TURNS];
                steps_of(a, c, staged, tokens, g, s);
#pragma unroll
                for (int j = 0; j < TURNS; ++j) su[j] = s[j] * u[j], skipped[j] = c.skip * u[j], total += s[j];
                load_turns(c.x, staged.tokens + (here + g + SPAN) % (2 * TILE), bytes, u);
#pragma unroll
                for (int j = 0; j < TURNS; ++j) {
                    int at = g + j * LANES;
                    const float* bc = staged.bc + at * 2 * STATES + lane * OWN;
                    float sum = skipped[j] + advance<SUMMARY>(bc, c.A, s[j], su[j], h);
                    if (!SUMMARY && part.live && t0 + at + lane < end)
                        store(at_row(y, tokens[at + lane], a.channels * 4), sum);
                }
            }
        }
        __syncthreads();
    }
    if (SUMMARY) {
        i64 row = summary_at(a, part, part.segment);
        save(a, part, a.ends + state_at(a, part, row), h);
        total += __shfl_xor_sync(~0u, total, 1);
        total += __shfl_xor_sync(~0u, total, 2);
        if (part.live && part.state == 0) a.steps[row * a.channels + part.channel] = total;
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
