// LSTM and GRU over the timeline, with resets built in.
//
// Arrays are [T, N, ...] and contiguous. Where reset[t, n] is set, step t reads zeros instead of the
// state before it, and no gradient passes. Threads share the units, and wait for each other once a
// step, so the state that all of them read is whole.
#include "vector.hpp"

namespace {

// Panel p holds, for each of the H inputs k, the weights of units p * LANES... of all G gates, a
// vector a gate; zeros beyond the last unit. weight [G H, H].
template <int G> void pack_gates(const float *weight, long H, long panel, float *to) {
    long first = panel * LANES, n = least(LANES, H - first);
    if (n < LANES) memset(to, 0, 4 * H * G * LANES);
    for (int g = 0; g < G; g++)
        for (long k0 = 0; k0 < H; k0 += 16)  // a line of the cache at a time
            for (long j = 0; j < n; j++) {
                const float *from = weight + (g * H + first + j) * H;
                for (long k = k0; k < least(k0 + 16, H); k++) to[(k * G + g) * LANES + j] = from[k];
            }
}

constexpr int WIDE = 4 * LANES;  // units of a panel of the way back

// Panel p holds columns p * WIDE... of the rows of weight [depth, H]; zeros beyond the last.
void pack_columns(const float *weight, long depth, long H, long panel, float *to) {
    long first = panel * WIDE, n = least(WIDE, H - first);
    if (n < WIDE) memset(to, 0, 4 * depth * WIDE);
    for (long k = 0; k < depth; k++) memcpy(to + k * WIDE, weight + k * H + first, 4 * n);
}

// flow[row, units of the panel] = (keep ? extra : 0) + d[row] times the packed weights; 0 at a reset.
template <bool ADD>
INLINE void flow_back(const float *d, long depth, const float *packed, long N, long H, long panel,
                      const uint8_t *reset, float *flow) {
    long first = panel * WIDE;
    in_blocks<SHORT>(0, N, [&](long row, auto count) {
        constexpr int R = count;
        const float *from = d + row * depth;
        vec sum[R][4] = {};
        product(sum, depth, [&](int r, long k) { return from[r * depth + k]; }, packed, WIDE);
        for (int r = 0; r < R; r++)
            for (int c = 0; c < 4; c++) {
                long unit = first + c * LANES;
                if (unit >= H) break;
                float *to = flow + (row + r) * H + unit;
                vec x = ADD ? sum[r][c] + load(to, H - unit) : sum[r][c];
                store(to, reset[row + r] ? vec{} : x, H - unit);
            }
    });
}

}  // namespace

extern "C" {

// pre [T, N, 4 H] = W x + b (gates i, f, g, o), weight [4 H, H] = U, h0 and c0 [N, H] to the gates
// [T, N, 4 H], the cells c, tanh(c) and the outputs h [T, N, H]. Without a weight, pre holds U h as well
// (and T is 1).
void lstm_forward(long T, long N, long H, const float *pre, const float *weight, const float *h0,
                  const float *c0, const uint8_t *reset, float *gates, float *c, float *squashed,
                  float *h, int threads) {
    long panels = ceil_div(H, LANES), size = H * 4 * LANES;
    Buffer packed(weight ? panels * size : 0), zeros(H);
    memset(zeros, 0, 4 * H);
#pragma omp parallel num_threads(threads)
    {
        Part mine = part(panels);
        for (long p = mine.from; weight && p < mine.to; p++)
            pack_gates<4>(weight, H, p, packed + p * size);
        for (long t = 0; t < T; t++) {
            const float *h_old = t ? h + (t - 1) * N * H : h0, *c_old = t ? c + (t - 1) * N * H : c0;
            for (long p = mine.from; p < mine.to; p++)
                in_blocks<SHORT>(0, N, [&](long row, auto count) {
                    constexpr int R = count;
                    long unit = p * LANES, n = H - unit, at = t * N + row;
                    vec sum[R][4];
                    const float *before[R];
                    for (int r = 0; r < R; r++) {
                        before[r] = reset[at + r] ? (float *)zeros : h_old + (row + r) * H;
                        for (int g = 0; g < 4; g++)
                            sum[r][g] = load(pre + (at + r) * 4 * H + g * H + unit, n);
                    }
                    if (weight)
                        product(sum, H, [&](int r, long k) { return before[r][k]; },
                                packed + p * size, 4 * LANES);
                    for (int r = 0; r < R; r++) {
                        vec in = sigmoid(sum[r][0]), keep = sigmoid(sum[r][1]);
                        vec next = tanh(sum[r][2]), open = sigmoid(sum[r][3]);
                        vec old = reset[at + r] ? vec{} : load(c_old + (row + r) * H + unit, n);
                        vec cell = keep * old + in * next, tanh_cell = tanh(cell);
                        float *gate = gates + (at + r) * 4 * H + unit;
                        store(gate, in, n);
                        store(gate + H, keep, n);
                        store(gate + 2 * H, next, n);
                        store(gate + 3 * H, open, n);
                        store(c + (at + r) * H + unit, cell, n);
                        store(squashed + (at + r) * H + unit, tanh_cell, n);
                        store(h + (at + r) * H + unit, open * tanh_cell, n);
                    }
                });
#pragma omp barrier
        }
    }
}

// into_h [T, N, H] is the gradient of the outputs; flow_h and flow_c [N, H] are those of the last
// state on entry (beyond into_h), and of h0 and c0 on return. into_pre [T, N, 4 H] is found.
void lstm_backward(long T, long N, long H, const float *weight, const float *c0,
                   const uint8_t *reset, const float *gates, const float *c, const float *squashed,
                   const float *into_h, float *into_pre, float *flow_h, float *flow_c, int threads) {
    long panels = ceil_div(H, WIDE), size = 4 * H * WIDE;
    Buffer packed(panels * size);
#pragma omp parallel num_threads(threads)
    {
        Part mine = part(panels);
        for (long p = mine.from; p < mine.to; p++)
            pack_columns(weight, 4 * H, H, p, packed + p * size);
        for (long t = T - 1; t >= 0; t--) {
            for (long row = 0; row < N; row++)
                for (long u = mine.from * WIDE; u < least(H, mine.to * WIDE); u += LANES) {
                    long at = t * N + row, n = H - u;
                    const float *gate = gates + at * 4 * H + u;
                    vec in = load(gate, n), keep = load(gate + H, n), next = load(gate + 2 * H, n);
                    vec open = load(gate + 3 * H, n), tanh_cell = load(squashed + at * H + u, n);
                    vec old{};
                    if (!reset[at]) old = load(t ? c + (at - N) * H + u : c0 + row * H + u, n);
                    vec into = load(into_h + at * H + u, n) + load(flow_h + row * H + u, n);
                    vec cell = load(flow_c + row * H + u, n);
                    cell += into * open * (1.f - tanh_cell * tanh_cell);
                    float *to = into_pre + at * 4 * H + u;
                    store(to, cell * next * (in * (1.f - in)), n);
                    store(to + H, cell * old * (keep * (1.f - keep)), n);
                    store(to + 2 * H, cell * in * (1.f - next * next), n);
                    store(to + 3 * H, into * tanh_cell * (open * (1.f - open)), n);
                    store(flow_c + row * H + u, reset[at] ? vec{} : cell * keep, n);
                }
#pragma omp barrier
            for (long p = mine.from; p < mine.to; p++)
                flow_back<false>(into_pre + t * N * 4 * H, 4 * H, packed + p * size, N, H, p,
                                 reset + t * N, flow_h);
        }
    }
}

// pre [T, N, 3 H] = W x + b (gates r, z, n), weight [3 H, H] = U, bias [3 H] = d, h0 [N, H] to the gates
// [T, N, 3 H], hidden [T, N, H] = the candidate's part of U h + d, and the outputs h [T, N, H]. Without
// a weight, hidden holds that part on entry and pre the others' (and T is 1).
void gru_forward(long T, long N, long H, const float *pre, const float *weight, const float *bias,
                 const float *h0, const uint8_t *reset, float *gates, float *hidden, float *h,
                 int threads) {
    long panels = ceil_div(H, LANES), size = H * 3 * LANES;
    Buffer packed(weight ? panels * size : 0), zeros(H);
    memset(zeros, 0, 4 * H);
#pragma omp parallel num_threads(threads)
    {
        Part mine = part(panels);
        for (long p = mine.from; weight && p < mine.to; p++)
            pack_gates<3>(weight, H, p, packed + p * size);
        for (long t = 0; t < T; t++) {
            const float *h_old = t ? h + (t - 1) * N * H : h0;
            for (long p = mine.from; p < mine.to; p++)
                in_blocks<SHORT>(0, N, [&](long row, auto count) {
                    constexpr int R = count;
                    long unit = p * LANES, n = H - unit, at = t * N + row;
                    vec sum[R][3];
                    const float *before[R];
                    for (int r = 0; r < R; r++) {
                        before[r] = reset[at + r] ? (float *)zeros : h_old + (row + r) * H;
                        for (int g = 0; g < 3; g++)
                            sum[r][g] = weight ? load(bias + g * H + unit, n) : vec{};
                    }
                    if (weight)
                        product(sum, H, [&](int r, long k) { return before[r][k]; },
                                packed + p * size, 3 * LANES);
                    for (int r = 0; r < R; r++) {
                        const float *own = pre + (at + r) * 3 * H + unit;
                        float *gate = gates + (at + r) * 3 * H + unit;
                        float *part_n = hidden + (at + r) * H + unit;
                        if (weight) store(part_n, sum[r][2], n);
                        else sum[r][2] = load(part_n, n);
                        vec choose = sigmoid(sum[r][0] + load(own, n));
                        vec keep = sigmoid(sum[r][1] + load(own + H, n));
                        vec next = tanh(load(own + 2 * H, n) + choose * sum[r][2]);
                        store(gate, choose, n);
                        store(gate + H, keep, n);
                        store(gate + 2 * H, next, n);
                        vec old = load(before[r] + unit, n);
                        store(h + (at + r) * H + unit, next + keep * (old - next), n);
                    }
                });
#pragma omp barrier
        }
    }
}

// into_h as for the LSTM; flow [N, H] is 0 on entry, and the gradient of h0 on return. into_pre and
// into_hidden [T, N, 3 H], the gradients of pre and of U h + d, are found.
void gru_backward(long T, long N, long H, const float *weight, const float *h0,
                  const uint8_t *reset, const float *gates, const float *hidden, const float *h,
                  const float *into_h, float *into_pre, float *into_hidden, float *flow,
                  int threads) {
    long panels = ceil_div(H, WIDE), size = 3 * H * WIDE;
    Buffer packed(panels * size);
#pragma omp parallel num_threads(threads)
    {
        Part mine = part(panels);
        for (long p = mine.from; p < mine.to; p++)
            pack_columns(weight, 3 * H, H, p, packed + p * size);
        for (long t = T - 1; t >= 0; t--) {
            for (long row = 0; row < N; row++)
                for (long u = mine.from * WIDE; u < least(H, mine.to * WIDE); u += LANES) {
                    long at = t * N + row, n = H - u;
                    const float *gate = gates + at * 3 * H + u;
                    vec choose = load(gate, n), keep = load(gate + H, n), next = load(gate + 2 * H, n);
                    vec old{};
                    if (!reset[at]) old = load(t ? h + (at - N) * H + u : h0 + row * H + u, n);
                    vec into = load(into_h + at * H + u, n) + load(flow + row * H + u, n);
                    vec d_keep = into * (old - next) * (keep * (1.f - keep));
                    vec d_next = into * (1.f - keep) * (1.f - next * next);
                    vec d_choose = d_next * load(hidden + at * H + u, n) * (choose * (1.f - choose));
                    float *to_pre = into_pre + at * 3 * H + u, *to = into_hidden + at * 3 * H + u;
                    store(to_pre, d_choose, n);
                    store(to_pre + H, d_keep, n);
                    store(to_pre + 2 * H, d_next, n);
                    store(to, d_choose, n);
                    store(to + H, d_keep, n);
                    store(to + 2 * H, d_next * choose, n);
                    store(flow + row * H + u, into * keep, n);
                }
#pragma omp barrier
            for (long p = mine.from; p < mine.to; p++)
                flow_back<true>(into_hidden + t * N * 3 * H, 3 * H, packed + p * size, N, H, p,
                                reset + t * N, flow);
        }
    }
}
}
