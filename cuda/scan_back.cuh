// What the backward scans share: a thread owns a channel with 16 states.
#pragma once

#include "scan.cuh"

enum { GROUP = 4 };  // tokens whose steps are projected together

// Shared memory of a block that reads TOKENS tokens at a time; all of it at offsets that the compiler knows.
template <int TOKENS, int THREADS, int MORE = 0> struct Staged {
    enum { PITCH = TOKENS + 4 + THREADS + MORE, RANKS = TOKENS * (1 + 2 * STATES) };
    float* all;  // [TOKENS] row-major numbers, [TOKENS][B 16 | C 16], [R][dt TOKENS + 4 | weight THREADS | MORE]

    DEVICE_MEMBER int* tokens() const { return reinterpret_cast<int*>(all); }
    DEVICE_MEMBER float* bc() const { return all + TOKENS; }
    DEVICE_MEMBER float* dt(int r) const { return all + RANKS + r * PITCH; }
    DEVICE_MEMBER float* weight(int r) const { return dt(r) + TOKENS + 4; }
    DEVICE_MEMBER float* more(int r) const { return weight(r) + THREADS; }
};

// The rows of the tokens from `t` on; nobody may still read those before.
template <class T, int TOKENS, int THREADS, int MORE>
DEVICE void stage(const ScanBackward& a, unsigned threads, int direction, int plane, Rows<T> rows,
                  Staged<TOKENS, THREADS, MORE> staged, int t) {
    __syncthreads();
    if (threadIdx.x < TOKENS) staged.tokens()[threadIdx.x] = token_at(a, direction, t + (int)threadIdx.x);
    __syncthreads();
    unsigned thread = threadIdx.x;
    stage_states<TOKENS>(a, thread, threads, plane, rows, staged.tokens(), 1.0f, staged.bc());
    stage_dt<TOKENS>(thread, threads, a.rank, rows, staged.tokens(), staged.PITCH, thread % TOKENS, staged.dt(0));
    __syncthreads();
}

// The weights of a thread's channel.
template <class Staged> DEVICE void open_weights(const ScanBackward& a, Part part, Staged staged) {
    const float* row = a.dt_weight + (i64)(part.direction * a.channels + part.channel) * a.rank;
    for (int r = 0; r < a.rank; ++r) staged.weight(r)[threadIdx.x] = row[r];
}

// Steps of COUNT tokens, from `t` on in the tile; delta: of the thread's channel and token 0, or null.
template <class T, class Staged, int COUNT>
DEVICE void steps_of(const ScanBackward& a, const T* delta, float bias, Staged staged, int t, float (&s)[COUNT]) {
#pragma unroll
    for (int j = 0; j < COUNT; ++j)
        s[j] = delta ? bias + load(at_row(delta, staged.tokens()[t + j], a.channels * (int)sizeof(T))) : bias;
#pragma unroll 1
    for (int r = 0; r < a.rank; ++r) {
        float w = staged.weight(r)[threadIdx.x];
#pragma unroll
        for (int q = 0; q < COUNT; q += 4) {
            float dt[4];
            load4(staged.dt(r) + t + q, dt);
#pragma unroll
            for (int j = 0; j < 4; ++j) s[q + j] = fmaf(w, dt[j], s[q + j]);
        }
    }
    if (a.softplus) {
#pragma unroll
        for (int j = 0; j < COUNT; ++j) s[j] = softplus(s[j]);
    }
}
