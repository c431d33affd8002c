// The forward scan of the maps that models have, where sequences stay whole: 16 states, R >= 1, D a multiple of the channels
// of a block, L of two spans. A block walks a path and its reverse, half of its threads each. From the middle on each comes to
// tokens that the other has left, and adds to what it finds there: two parts remain to be summed instead of four. The kernels
// differ in the states of a thread, which is how a GPU is filled by few channels: of two channels 32, of one 16, 8 or 4.
#include "scan.cuh"

enum {
    HALF = 64,         // threads of a direction
    PITCH = TILE + 4,  // of dt: a multiple of 4 that spreads ranks over banks
};

template <int PAIR_, int LANES_> struct Way {
    enum {
        PAIR = PAIR_,    // channels of a thread
        LANES = LANES_,  // threads that share a channel
        OWN = STATES / LANES,
        SPAN = LANES > 1 ? 16 : 8,  // tokens whose steps are projected together
        TURNS = SPAN / LANES,        // of them, a thread's: every LANES-th
        APART = HALF / LANES,        // between the channels of a thread
        CHANNELS = APART * PAIR,
        AHEAD = PAIR == 1,           // registers suffice for B and C of the next tile
    };
    struct Read {  // of a span: inputs, and what the other direction has left
        float u[TURNS][PAIR], left[TURNS][PAIR];
    };
    float bias[PAIR];  // times log2 e
    float skip[PAIR];
    float A[PAIR][OWN], h[PAIR][OWN];
};

struct Staged {     // in shared memory, of a direction
    int* tokens;    // [2][TILE], row-major numbers, of this tile and of the next
    float* bc;      // [TILE][B 16, times ln 2 | C 16]
    float* dt;      // [R][PITCH], a thread's turns of a span together
    float* weight;  // [R][CHANNELS], times log2 e, from the thread's on
};

// The part of a thread's first channel; its second is APART further.
template <class W> DEVICE Part part_of_walk(const ScanForward& a) {
    int thread = threadIdx.x % HALF, tiles = a.channels / W::CHANNELS, walk = blockIdx.x / tiles;
    int tile = blockIdx.x % tiles, direction = walk % 2 + threadIdx.x / HALF * 2;
    return {walk / 2, direction, 0, tile, tile * W::CHANNELS + thread / W::LANES, 0, thread % W::LANES * W::OWN, true};
}

template <class W> DEVICE Staged carve(float* shared, int rank) {
    int within = threadIdx.x % HALF / W::LANES * W::PAIR;
    shared += threadIdx.x / HALF * (2 * TILE + TILE * 2 * STATES + rank * (PITCH + W::CHANNELS));
    float *bc = shared + 2 * TILE, *dt = bc + TILE * 2 * STATES, *weight = dt + rank * PITCH;
    return {reinterpret_cast<int*>(shared), bc, dt, weight + within};
}

// B and C of a tile, what a thread brings of them: a warp has every second four tokens, a lane one of their 32 values.
struct States {
    float v[TILE / 2];

    template <class T> DEVICE_MEMBER void ask(const ScanForward& a, Rows<T> rows, const int* tokens) {
        const T* row = rows.first + a.rank + threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < TILE / 2; i += 4) {
            int token[4];
            load4(tokens + 2 * i + threadIdx.x % HALF / 32 * 4, token);
            for (int j = 0; j < 4; ++j) v[i + j] = load(at_row(row, token[j], rows.bytes));
        }
    }
    DEVICE_MEMBER void put(float* bc) const {
        int lane = threadIdx.x % 32;
        float factor = lane < STATES ? LN_2 : 1.0f;
        bc += threadIdx.x % HALF / 32 * 4 * 2 * STATES + lane;
#pragma unroll
        for (int i = 0; i < TILE / 2; ++i) bc[(i / 4 * 8 + i % 4) * 2 * STATES] = factor * v[i];
    }
};

template <class W> DEVICE void open(const ScanForward& a, Part part, Staged staged, W& own) {
#pragma unroll
    for (int c = 0; c < W::PAIR; ++c) {
        i64 row = part.direction * a.channels + part.channel + W::APART * c;
#pragma unroll 1
        for (int r = threadIdx.x % W::LANES; r < a.rank; r += W::LANES)
            staged.weight[r * W::CHANNELS + c] = LOG2_E * a.dt_weight[row * a.rank + r];
        own.bias[c] = LOG2_E * a.dt_bias[row];
        own.skip[c] = a.skip[row];
#pragma unroll
        for (int n = 0; n < W::OWN; ++n) {
            own.A[c][n] = a.A[row * STATES + part.state + n];
            own.h[c][n] = 0.0f;
        }
    }
}

template <int COUNT> DEVICE void load_all(const float* p, float (&v)[COUNT]) {
#pragma unroll
    for (int q = 0; q < COUNT; q += 4) {
        float four[4];
        load4(p + q, four);
#pragma unroll
        for (int j = 0; j < 4; ++j) v[q + j] = four[j];
    }
}
DEVICE void load_all(const float* p, float (&v)[2]) { load2(p, v); }
DEVICE void load_all(const float* p, float (&v)[1]) { v[0] = *p; }

// The thread's tokens of a span.
template <class W> DEVICE int turn_of(const int* tokens, int turn) { return tokens[turn * W::LANES + threadIdx.x % W::LANES]; }

template <class W, class T> DEVICE void load_turns(const T* x, const int* tokens, int bytes, float (&u)[W::TURNS][W::PAIR]) {
#pragma unroll
    for (int j = 0; j < W::TURNS; ++j) {
        const T* row = at_row(x, turn_of<W>(tokens, j), bytes);
        for (int c = 0; c < W::PAIR; ++c) u[j][c] = load(row + c * W::APART);
    }
}

// What the other direction has left at the tokens of a span; 0 where it has still to come.
template <class W>
DEVICE void load_left(const float* y, const int* tokens, int bytes, bool there, float (&left)[W::TURNS][W::PAIR]) {
#pragma unroll
    for (int j = 0; j < W::TURNS; ++j) {
        const float* row = at_row(y, turn_of<W>(tokens, j), bytes);
        for (int c = 0; c < W::PAIR; ++c) left[j][c] = load_stored(row + c * W::APART, there);
    }
}

// log2 e times the steps of a span, whose dt of the first rank begins at `dt`; there is at least one rank.
template <class W>
DEVICE void steps_of(int rank, const W& own, const float* dt, const float* weight, float (&s)[W::TURNS][W::PAIR]) {
    float w[W::PAIR], v[W::TURNS];
    load_all(weight, w);
    load_all(dt, v);
#pragma unroll
    for (int j = 0; j < W::TURNS; ++j)
        for (int c = 0; c < W::PAIR; ++c) s[j][c] = fmaf(w[c], v[j], own.bias[c]);
#pragma unroll 1
    while (--rank > 0) {
        load_all(weight += W::CHANNELS, w);
        load_all(dt += PITCH, v);
#pragma unroll
        for (int j = 0; j < W::TURNS; ++j)
            for (int c = 0; c < W::PAIR; ++c) s[j][c] = fmaf(w[c], v[j], s[j][c]);
    }
#pragma unroll
    for (int j = 0; j < W::TURNS; ++j)
        for (int c = 0; c < W::PAIR; ++c) s[j][c] = softplus2(s[j][c]);
}

template <int LANES> DEVICE float from_lane(float v, int lane) {
    if constexpr (LANES == 1) return v;
    else return __shfl_sync(~0u, v, lane, LANES);
}

// LANES tokens: advance the states; adds C . h of the token whose steps this thread has to y.
template <class W>
DEVICE void advance(const float* bc, const float (&s)[W::PAIR], const float (&su)[W::PAIR], W& own, float (&y)[W::PAIR]) {
    float sums[W::PAIR][W::LANES];
#pragma unroll
    for (int i = 0; i < W::LANES; ++i, bc += 2 * STATES) {
        float step[W::PAIR], input[W::PAIR];
        for (int c = 0; c < W::PAIR; ++c) {
            step[c] = from_lane<W::LANES>(s[c], i);
            input[c] = from_lane<W::LANES>(su[c], i);
            sums[c][i] = W::LANES == 1 ? y[c] : 0.0f;
        }
#pragma unroll
        for (int q = 0; q < W::OWN; q += 4) {
            float B[4], C[4];
            load4(bc + q, B);
            load4(bc + STATES + q, C);
#pragma unroll
            for (int n = 0; n < 4; ++n)
                for (int c = 0; c < W::PAIR; ++c) {
                    float& h = own.h[c][q + n];
                    h = fmaf(exp2_fast(step[c] * own.A[c][q + n]), h, input[c] * B[n]);
                    sums[c][i] = fmaf(C[n], h, sums[c][i]);
                }
        }
    }
    for (int c = 0; c < W::PAIR; ++c) y[c] = W::LANES == 1 ? sums[c][0] : y[c] + sum_over_lanes(sums[c]);
}

template <class W> DEVICE void save_states(float* to, int channels, const W& own) {
#pragma unroll
    for (int n = 0; n < W::OWN; ++n, to += channels)
        for (int c = 0; c < W::PAIR; ++c) to[c * W::APART] = own.h[c][n];
}

template <class T, class W> DEVICE void scan(const ScanForward& a, float* shared) {
    Part part = part_of_walk<W>(a);
    Staged staged = carve<W>(shared, a.rank);
    W own;
    open(a, part, staged, own);
    Rows<T> rows = open_rows<T>(a, part);
    int thread = threadIdx.x % HALF, lane = thread % W::LANES, middle = a.length / 2, t = thread % TILE;
    int place = t / W::SPAN * W::SPAN + t % W::LANES * W::TURNS + t % W::SPAN / W::LANES;  // of its dt
    int x_bytes = a.channels * (int)sizeof(T), y_bytes = a.channels * 4;
    i64 sequence = (i64)part.batch * a.directions + part.direction, path = part.direction % 2;
    const T* x = static_cast<const T*>(a.x) + (i64)part.batch * a.length * a.channels + part.channel;
    float* y = a.parts + (path * a.batch + part.batch) * a.length * a.channels + part.channel;
    float* checkpoint = a.checkpoints ? a.checkpoints + state_at(a, part, sequence * (a.length / CHUNK)) : nullptr;
    typename W::Read now = {};
    States states;
    if (thread < TILE) staged.tokens[thread] = token_at(a, part.direction, thread);
    __syncthreads();
    load_turns<W>(x, staged.tokens, x_bytes, now.u);
    if (W::AHEAD) states.ask(a, rows, staged.tokens);
#pragma unroll 1
    for (int t0 = 0, here = 0, count; t0 < a.length; t0 += count, here ^= TILE) {
        count = min((int)TILE, (t0 < middle ? middle : a.length) - t0);
        const int *tokens = staged.tokens + here, *later = staged.tokens + (here ^ TILE);
        if (thread < TILE) staged.tokens[(here ^ TILE) + thread] = token_at(a, part.direction, t0 + count + thread);
        if (!W::AHEAD) states.ask(a, rows, tokens);
        states.put(staged.bc);
        stage_dt<TILE>(thread, HALF, a.rank, rows, tokens, PITCH, place, staged.dt);
        __syncthreads();
        if (W::AHEAD) states.ask(a, rows, later);
        if (t0 == middle) load_left<W>(y, tokens, y_bytes, true, now.left);
#pragma unroll 1
        for (int g = 0; g < count;) {
            if (checkpoint && (t0 + g) % CHUNK == 0) {
                save_states(checkpoint, a.channels, own);
                checkpoint += (i64)STATES * a.channels;
            }
#pragma unroll 1
            do {
                float s[W::TURNS][W::PAIR], su[W::TURNS][W::PAIR], sum[W::TURNS][W::PAIR];
                const int* ahead = g + W::SPAN < count ? tokens + g + W::SPAN : later;
                typename W::Read next;  // asked for now: the compiler moves no load down across the loop over ranks
                load_turns<W>(x, ahead, x_bytes, next.u);
                load_left<W>(y, ahead, y_bytes, t0 >= middle && t0 + g + W::SPAN < a.length, next.left);
                steps_of(a.rank, own, staged.dt + g + lane * W::TURNS, staged.weight, s);
#pragma unroll
                for (int j = 0; j < W::TURNS; ++j)
                    for (int c = 0; c < W::PAIR; ++c) {
                        sum[j][c] = fmaf(own.skip[c], now.u[j][c], now.left[j][c]);
                        su[j][c] = s[j][c] * now.u[j][c];
                    }
#pragma unroll
                for (int j = 0; j < W::TURNS; ++j) {
                    advance(staged.bc + (g + j * W::LANES) * 2 * STATES + lane * W::OWN, s[j], su[j], own, sum[j]);
                    float* to = at_row(y, turn_of<W>(tokens + g, j), y_bytes);
                    for (int c = 0; c < W::PAIR; ++c) store(to + c * W::APART, sum[j][c]);
                }
                now = next;
                g += W::SPAN;
            } while (g < count && (t0 + g) % CHUNK);
        }
        __syncthreads();
    }
}

#define EXPORT(states, pair, lanes, suffix, T)                   \
    KERNEL(scan_sweep##states##_##suffix, ScanForward, 128, 2) { \
        SHARED(float, shared);                                   \
        scan<T, Way<pair, lanes>>(a, shared);                    \
    }
#define EXPORT_ALL(suffix, T)     \
    EXPORT(32, 2, 1, suffix, T)   \
    EXPORT(16, 1, 1, suffix, T)   \
    EXPORT(8, 1, 2, suffix, T)    \
    EXPORT(4, 1, 4, suffix, T)

EXPORT_ALL(f32, float)
EXPORT_ALL(f16, half)
EXPORT_ALL(bf16, bfloat)
