// The forward scan of the maps that models have, on a grid that fills the GPU: 16 states, D a multiple of 64, L of 8. A thread
// owns two channels with all their states in registers, so that what it reads from shared memory serves both, and a block walks
// a whole sequence in tiles, whose B, C and dt it shares. Everything else: scan_forward.cu.
#include "scan.cuh"

enum {
    PAIR = 2,                        // channels of a thread
    APART = 32,                      // between them
    SPAN = 8,                        // tokens whose steps are projected together
    PITCH = TILE + 4,                // of dt: a multiple of 4 that spreads ranks over banks
    WEIGHTS = PAIR * 64,             // of a rank
};

struct Staged {     // in shared memory
    int* tokens;    // [2][TILE], row-major numbers, of this tile and of the next
    float* bc;      // [TILE][B 16, times ln 2 | C 16]
    float* dt;      // [R][PITCH]
    float* weight;  // [R][64][2], times log2 e, from this thread's pair on
};

struct Pair {
    float bias[PAIR];  // times log2 e
    float A[PAIR][STATES], h[PAIR][STATES];
};

DEVICE void open_pair(const ScanForward& a, Part part, Staged staged, Pair& own) {
#pragma unroll
    for (int c = 0; c < PAIR; ++c) {
        i64 row = part.direction * a.channels + part.channel + APART * c;
#pragma unroll 1
        for (int r = 0; r < a.rank; ++r) staged.weight[r * WEIGHTS + c] = LOG2_E * a.dt_weight[row * a.rank + r];
        own.bias[c] = LOG2_E * a.dt_bias[row];
#pragma unroll
        for (int n = 0; n < STATES; ++n) {
            own.A[c][n] = a.A[row * STATES + n];
            own.h[c][n] = 0.0f;
        }
    }
}

template <class T> DEVICE void load8(const T* p, T (&v)[SPAN]) {
    T low[4], high[4];
    load4(p, low);
    load4(p + 4, high);
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = low[j], v[j + 4] = high[j];
}

template <class T> DEVICE void load_span(const T* x, const int* tokens, int bytes, float (&u)[SPAN][PAIR]) {
    int token[SPAN];
    load8(tokens, token);
#pragma unroll
    for (int j = 0; j < SPAN; ++j) {
        const T* row = at_row(x, token[j], bytes);
        u[j][0] = load(row);
        u[j][1] = load(row + APART);
    }
}

// log2 e times the steps of a span, whose dt of the first rank begins at `dt`; there is at least one rank.
DEVICE void steps_of(int rank, const Pair& own, const float* dt, const float* weight, float (&s)[SPAN][PAIR]) {
    float w[PAIR], v[SPAN];
    load2(weight, w);
    load8(dt, v);
#pragma unroll
    for (int j = 0; j < SPAN; ++j)
        for (int c = 0; c < PAIR; ++c) s[j][c] = fmaf(w[c], v[j], own.bias[c]);
#pragma unroll 1
    while (--rank > 0) {
        load2(weight += WEIGHTS, w);
        load8(dt += PITCH, v);
#pragma unroll
        for (int j = 0; j < SPAN; ++j)
            for (int c = 0; c < PAIR; ++c) s[j][c] = fmaf(w[c], v[j], s[j][c]);
    }
#pragma unroll
    for (int j = 0; j < SPAN; ++j)
        for (int c = 0; c < PAIR; ++c) s[j][c] = softplus2(s[j][c]);
}

// One token: advance the states; C . h of both channels.
DEVICE void advance(const float* bc, const float (&s)[PAIR], const float (&su)[PAIR], Pair& own, float (&y)[PAIR]) {
    y[0] = y[1] = 0.0f;
#pragma unroll
    for (int q = 0; q < STATES; q += 4) {
        float B[4], C[4];
        load4(bc + q, B);
        load4(bc + STATES + q, C);
#pragma unroll
        for (int n = 0; n < 4; ++n)
            for (int c = 0; c < PAIR; ++c) {
                float& h = own.h[c][q + n];
                h = fmaf(exp2_fast(s[c] * own.A[c][q + n]), h, su[c] * B[n]);
                y[c] = fmaf(C[n], h, y[c]);
            }
    }
}

// A thread's first channel; its second is APART further.
DEVICE Part part_of_pair(const ScanForward& a) {
    int tiles = a.channels / (PAIR * blockDim.x), sequence = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    int channel = tile * PAIR * blockDim.x + threadIdx.x / APART * PAIR * APART + threadIdx.x % APART;
    return {sequence / a.directions, sequence % a.directions, 0, tile, channel, 0, 0, true};
}

template <class T> DEVICE void scan(const ScanForward& a, float* shared) {
    Part part = part_of_pair(a);
    float *bc = shared + 2 * TILE, *dt = bc + TILE * 2 * STATES;
    Staged staged = {reinterpret_cast<int*>(shared), bc, dt, dt + a.rank * PITCH + PAIR * threadIdx.x};
    Pair own;
    open_pair(a, part, staged, own);
    Rows<T> rows = open_rows<T>(a, part);
    int bytes = a.channels * (int)sizeof(T);
    i64 sequence = (i64)part.batch * a.directions + part.direction;
    const T* x = static_cast<const T*>(a.x) + (i64)part.batch * a.length * a.channels + part.channel;
    float* y = a.parts + ((i64)part.direction * a.batch + part.batch) * a.length * a.channels + part.channel;
    float* checkpoint = a.checkpoints ? a.checkpoints + state_at(a, part, sequence * ceil_div(a.length, CHUNK)) : nullptr;
    float u[SPAN][PAIR];
    if (threadIdx.x < TILE) staged.tokens[threadIdx.x] = token_at(a, part.direction, (int)threadIdx.x);
    __syncthreads();
    load_span(x, staged.tokens, bytes, u);
#pragma unroll 1
    for (int t0 = 0; t0 < a.length; t0 += TILE) {
        int here = t0 & TILE;
        if (threadIdx.x < TILE)
            staged.tokens[(here ^ TILE) + threadIdx.x] = token_at(a, part.direction, t0 + TILE + (int)threadIdx.x);
        stage_states<TILE>(a, part.plane, rows, staged.tokens + here, LN_2, staged.bc);
        stage_dt<TILE>(a.rank, rows, staged.tokens + here, PITCH, 1, staged.dt);
        __syncthreads();
#pragma unroll 1
        for (int t = 0; t < TILE && t0 + t < a.length; t += CHUNK) {
            if (checkpoint) {
#pragma unroll
                for (int n = 0; n < STATES; ++n, checkpoint += a.channels) {
                    checkpoint[0] = own.h[0][n];
                    checkpoint[APART] = own.h[1][n];
                }
            }
#pragma unroll 1
            for (int g = t; g < t + CHUNK && t0 + g < a.length; g += SPAN) {
                float s[SPAN][PAIR], su[SPAN][PAIR];
                int token[SPAN];
                load8(staged.tokens + here + g, token);
                steps_of(a.rank, own, staged.dt + g, staged.weight, s);
#pragma unroll
                for (int j = 0; j < SPAN; ++j)
                    for (int c = 0; c < PAIR; ++c) su[j][c] = s[j][c] * u[j][c];
                load_span(x, staged.tokens + (here + g + SPAN) % (2 * TILE), bytes, u);
#pragma unroll
                for (int j = 0; j < SPAN; ++j) {
                    float sum[PAIR];
                    advance(staged.bc + (g + j) * 2 * STATES, s[j], su[j], own, sum);
                    float* to = at_row(y, token[j], a.channels * 4);
                    store(to, sum[0]);
                    store(to + APART, sum[1]);
                }
            }
        }
        __syncthreads();
    }
}

#define EXPORT(suffix, T)                              \
    KERNEL(scan_sweep_##suffix, ScanForward, 64, 4) {  \
        SHARED(float, shared);                         \
        scan<T>(a, shared);                            \
    }

EXPORT(f32, float)
EXPORT(f16, half)
EXPORT(bf16, bfloat)
