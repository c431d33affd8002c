// What each segment but the first adds to the adjoint carried to the segment before it, from nothing, and its steps' sum:
// c <- a_t (c + C_t dy_t) from its last token to its first. scan_backward folds the summaries of later segments.
#include "scan.cuh"

template <class T> DEVICE void scan_adjoint(const ScanBackward& a, float* shared) {
    Part part = part_of(a, a.segments - 1);
    Rows<TILE> rows = carve_rows<TILE>(shared, a.rank);
    Channel<T> c = open_channel<T>(a, part, rows);
    int begin = (part.segment + 1) * a.segment_tokens, end = min(begin + a.segment_tokens, a.length);
    const T* dy = static_cast<const T*>(a.dy) + (i64)part.batch * a.length * a.channels + part.channel;
    float carry[STATES] = {}, total = 0.0f;
    for (int t0 = begin + (end - 1 - begin) / TILE * TILE; t0 >= begin; t0 -= TILE) {
        __syncthreads();
        if (threadIdx.x < TILE) rows.tokens[threadIdx.x] = token_at(a, part.direction, t0 + (int)threadIdx.x);
        __syncthreads();
        stage<T>(a, part, rows, rows.tokens, end - t0);
        __syncthreads();
#pragma unroll 1
        for (int g = TILE - GROUP; g >= 0; g -= GROUP) {
            float s[GROUP];
            steps_of(a, c, rows, rows.tokens, g, s);
#pragma unroll
            for (int j = GROUP - 1; j >= 0; --j) {
                float step = t0 + g + j < end ? s[j] : 0.0f;
                float slope = load(at_row(dy, rows.tokens[g + j], a.channels * (int)sizeof(T)));
                total += step;
#pragma unroll
                for (int q = 0; q < STATES; q += 4) {
                    float C[4];
                    load4(rows.bc + (g + j) * 2 * STATES + STATES + q, C);
#pragma unroll
                    for (int n = 0; n < 4; ++n)
                        carry[q + n] = exp2_fast(step * c.A[q + n]) * fmaf(C[n], slope, carry[q + n]);
                }
            }
        }
    }
    i64 row = summary_at(a, part, part.segment);
    save(a, part, a.ends + state_at(a, part, row), carry);
    if (part.live && part.plane == 0) a.steps[row * a.channels + part.channel] = total;
}

#define EXPORT(suffix, T)                                \
    KERNEL(scan_adjoint_##suffix, ScanBackward, 128, 5) { \
        SHARED(float, shared);                           \
        scan_adjoint<T>(a, shared);                      \
    }

EXPORT(f32, float)
EXPORT(f16, half)
EXPORT(bf16, bfloat)
