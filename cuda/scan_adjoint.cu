// What each segment but the first adds to the adjoint carried to the segment before it, from nothing, and its steps' sum:
// c <- a_t (c + C_t dy_t) from its last token to its first. scan_backward folds the summaries of later segments.
#include "scan_back.cuh"

template <class T> DEVICE void scan_adjoint(const ScanBackward& a, float* shared) {
    Part part = part_of<1>(a, a.segments - 1, blockDim.x);
    Staged<TILE, 128> staged = {shared};
    open_weights(a, part, staged);
    Rows<T> rows = open_rows<T>(a, part);
    int begin = (part.segment + 1) * a.segment_tokens, end = min(begin + a.segment_tokens, a.length);
    i64 start = (i64)part.batch * a.length * a.channels + part.channel;
    const T *dy = static_cast<const T*>(a.dy) + start, *delta = a.delta ? static_cast<const T*>(a.delta) + start : nullptr;
    float bias = a.dt_bias[part.direction * a.channels + part.channel];
    float carry[STATES] = {}, A[STATES], total = 0.0f;
    load_A(a, part, LOG2_E, A);
    for (int t0 = begin + (end - 1 - begin) / TILE * TILE; t0 >= begin; t0 -= TILE) {
        stage(a, blockDim.x, part.direction, part.plane, rows, staged, t0);
#pragma unroll 1
        for (int g = TILE - GROUP; g >= 0; g -= GROUP) {
            float s[GROUP];
            steps_of(a, delta, bias, staged, g, s);
#pragma unroll
            for (int j = GROUP - 1; j >= 0; --j) {
                bool live = t0 + g + j < end;
                float step = live ? s[j] : 0.0f;
                float slope = live ? load(at_row(dy, staged.tokens()[g + j], a.channels * (int)sizeof(T))) : 0.0f;
                total += step;
#pragma unroll
                for (int q = 0; q < STATES; q += 4) {
                    float C[4];
                    load4(staged.bc() + (g + j) * 2 * STATES + STATES + q, C);
#pragma unroll
                    for (int n = 0; n < 4; ++n)
                        carry[q + n] = exp2_fast(step * A[q + n]) * fmaf(C[n], slope, carry[q + n]);
                }
            }
        }
    }
    i64 row = summary_at(a, part, part.segment);
    save(a, part, a.ends + state_at(a, part, row), carry);
    if (part.live && part.plane == 0) a.steps[row * a.channels + part.channel] = total;
}

#define EXPORT(suffix, T)                                \
    KERNEL(scan_adjoint_##suffix, ScanBackward, 128, 4) { \
        SHARED(float, shared);                           \
        scan_adjoint<T>(a, shared);                      \
    }

EXPORT(f32, float)
EXPORT(f16, half)
EXPORT(bf16, bfloat)
