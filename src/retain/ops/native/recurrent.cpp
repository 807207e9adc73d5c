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

// body(panel, Count<panels>, row, Count<rows>) for tiles that cover the panels [from, to) and N rows.
// With few rows a tile has two panels: the sums of one are too few to keep the processor busy.
template <class Body> INLINE void in_tiles(long from, long to, long N, Body body) {
    if (N <= SHORT / 2)
        in_blocks<2>(from, to, [&](long panel, auto panels) INLINE_BODY {
            in_blocks<SHORT / 2>(0, N, [&](long row, auto rows) INLINE_BODY {
                body(panel, panels, row, rows);
            });
        });
    else
        for (long panel = from; panel < to; panel++)
            in_blocks<SHORT>(0, N, [&](long row, auto rows) INLINE_BODY {
                body(panel, Count<1>{}, row, rows);
            });
}

// flow[:, units of the panels] = (ADD ? flow : 0) + d [N, depth] times the packed weights; 0 at a
// reset.
template <bool ADD>
void flow_back(const float *d, long depth, const float *packed, long N, long H, Part panels,
               const uint8_t *reset, float *flow) {
    long size = depth * WIDE;
    in_tiles(panels.from, panels.to, N, [&](long panel, auto width, long row, auto rows) INLINE_BODY {
        constexpr int R = rows, C = 4 * width;
        const float *from = d + row * depth, *w = packed + panel * size;
        vec sum[R][C] = {};
        product(sum, depth, [&](int r, long k) { return from[r * depth + k]; },
                [&](long k, int c) { return w + c / 4 * size + k * WIDE + c % 4 * LANES; });
        for (int r = 0; r < R; r++)
            for (int c = 0; c < C; c++) {
                long unit = panel * WIDE + c * LANES;
                if (unit >= H) break;
                float *to = flow + (row + r) * H + unit;
                vec x = ADD ? sum[r][c] + load(to, H - unit) : sum[r][c];
                store(to, reset[row + r] ? vec{} : x, H - unit);
            }
    });
}

}  // namespace

extern "C" {

// gates [T, N, 4 H] hold W x + b (i, f, g, o) on entry, and the gates on return; weight [4 H, H] = U,
// h0 and c0 [N, H]. Found are the cells c, tanh(c) and the outputs h [T, N, H]. Without a weight,
// the gates hold U h as well on entry (and T is 1).
void lstm_forward(long T, long N, long H, float *gates, const float *weight, const float *h0,
                  const float *c0, const uint8_t *reset, float *c, float *squashed, float *h,
                  int threads) {
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
            auto tile = [&](long panel, auto panels, long row, auto rows) INLINE_BODY {
                constexpr int R = rows, P = panels;
                long at = t * N + row;
                vec sum[R][4 * P];
                const float *before[R];
                for (int r = 0; r < R; r++) {
                    before[r] = reset[at + r] ? (float *)zeros : h_old + (row + r) * H;
                    for (int i = 0; i < 4 * P; i++) {
                        long unit = (panel + i / 4) * LANES;
                        sum[r][i] = load(gates + ((at + r) * 4 + i % 4) * H + unit, H - unit);
                    }
                }
                const float *w = packed + panel * size;
                if (weight)
                    product(sum, H, [&](int r, long k) { return before[r][k]; },
                            [&](long k, int i) { return w + i / 4 * size + (k * 4 + i % 4) * LANES; });
                for (int i = 0; i < R * P; i++) {
                    int r = i / P;
                    vec *own = sum[r] + i % P * 4;
                    long unit = (panel + i % P) * LANES, n = H - unit, to = (at + r) * H + unit;
                    vec in = sigmoid(own[0]), keep = sigmoid(own[1]);
                    vec next = tanh(own[2]), open = sigmoid(own[3]);
                    vec old = reset[at + r] ? vec{} : load(c_old + (row + r) * H + unit, n);
                    vec cell = keep * old + in * next, tanh_cell = tanh(cell);
                    float *gate = gates + (at + r) * 4 * H + unit;
                    store(gate, in, n);
                    store(gate + H, keep, n);
                    store(gate + 2 * H, next, n);
                    store(gate + 3 * H, open, n);
                    store(c + to, cell, n);
                    store(squashed + to, tanh_cell, n);
                    store(h + to, open * tanh_cell, n);
                }
            };
            in_tiles(mine.from, mine.to, N, tile);
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
            flow_back<false>(into_pre + t * N * 4 * H, 4 * H, packed, N, H, mine, reset + t * N,
                             flow_h);
        }
    }
}

// gates [T, N, 3 H] hold W x + b (r, z, n) on entry, and the gates on return; weight [3 H, H] = U, bias
// [3 H] = d, h0 [N, H]. Found are hidden [T, N, H], the candidate's part of U h + d, and the outputs h
// [T, N, H]. Without a weight, bias [N, 3 H] is U h + d (and T is 1).
void gru_forward(long T, long N, long H, float *gates, const float *weight, const float *bias,
                 const float *h0, const uint8_t *reset, float *hidden, float *h, int threads) {
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
            auto tile = [&](long panel, auto panels, long row, auto rows) INLINE_BODY {
                constexpr int R = rows, P = panels;
                long at = t * N + row;
                vec sum[R][3 * P];
                const float *before[R];
                for (int r = 0; r < R; r++) {
                    before[r] = reset[at + r] ? (float *)zeros : h_old + (row + r) * H;
                    for (int i = 0; i < 3 * P; i++) {
                        long unit = (panel + i / 3) * LANES;
                        const float *from = weight ? bias : bias + (row + r) * 3 * H;
                        sum[r][i] = load(from + i % 3 * H + unit, H - unit);
                    }
                }
                const float *w = packed + panel * size;
                if (weight)
                    product(sum, H, [&](int r, long k) { return before[r][k]; },
                            [&](long k, int i) { return w + i / 3 * size + (k * 3 + i % 3) * LANES; });
                for (int i = 0; i < R * P; i++) {
                    int r = i / P;
                    vec *own = sum[r] + i % P * 3;
                    long unit = (panel + i % P) * LANES, n = H - unit, to = (at + r) * H + unit;
                    float *gate = gates + (at + r) * 3 * H + unit;
                    store(hidden + to, own[2], n);
                    vec choose = sigmoid(own[0] + load(gate, n));
                    vec keep = sigmoid(own[1] + load(gate + H, n));
                    vec next = tanh(load(gate + 2 * H, n) + choose * own[2]);
                    vec old = load(before[r] + unit, n);
                    store(gate, choose, n);
                    store(gate + H, keep, n);
                    store(gate + 2 * H, next, n);
                    store(h + to, next + keep * (old - next), n);
                }
            };
            in_tiles(mine.from, mine.to, N, tile);
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
            flow_back<true>(into_hidden + t * N * 3 * H, 3 * H, packed, N, H, mine, reset + t * N,
                            flow);
        }
    }
}
}
