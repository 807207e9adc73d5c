// Stacks of MLPs: K of one shape, [K, N, width] rows, weights [K, in, out], biases [K, out].
//
// A layer is one pass: product, bias and activation forward; product and the activation's derivative
// backward. Threads share the rows (and, for the gradients of weights, the weights); nothing waits
// within a pass over the rows.
#include "vector.hpp"

namespace {

enum Activation { NONE, RELU, TANH };
constexpr int PANEL = 2 * LANES;  // columns of a panel
constexpr long DEEP = 256;        // rows of a panel that stay in the first cache

INLINE vec activate(vec x, int activation) {
    if (activation == RELU) return x < vec{} ? vec{} : x;  // NaN stays
    return activation == TANH ? tanh(x) : x;
}

// The gradient before the activation from the one after it; y is the output.
INLINE vec derive(vec d, vec y, int activation) {
    if (activation == RELU) return y > vec{} ? d : vec{};
    return activation == TANH ? d * (1.f - y * y) : d;
}

// Columns first... of b [depth, width], a panel; zeros beyond the last.
void pack(const float *b, long depth, long width, long first, float *to) {
    long n = least(PANEL, width - first);
    for (long k = 0; k < depth; k++, to += PANEL) {
        const float *from = b + k * width + first;
        store(to, load(from, n));
        store(to + LANES, n > LANES ? load(from + LANES, n - LANES) : vec{});
    }
}

// The same columns of the transpose: row first + j of w [width, depth] becomes column j.
void pack_transposed(const float *w, long depth, long width, long first, float *to) {
    long n = least(PANEL, width - first);
    if (n < PANEL) memset(to, 0, 4 * depth * PANEL);
    for (long k0 = 0; k0 < depth; k0 += 16)  // a line of the cache at a time
        for (long j = 0; j < n; j++) {
            const float *from = w + (first + j) * depth;
            for (long k = k0; k < least(k0 + 16, depth); k++) to[k * PANEL + j] = from[k];
        }
}

// done(row, column, sum) for every vector of a[from:to, depth] times a panel.
template <int C, class Done>
INLINE void times_panel(const float *a, long from, long to, long depth, const float *panel,
                        long stride, Done done) {
    in_blocks<TALL>(from, to, [&](long row, auto count) {
        constexpr int R = count;
        const float *own = a + row * depth;
        vec sum[R][C] = {};
        product(sum, depth, [&](int r, long k) { return own[r * depth + k]; },
                [&](long k, int c) { return panel + k * stride + c * LANES; });
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
#pragma GCC unroll 2
            for (int c = 0; c < C; c++) done(row + r, c * LANES, sum[r][c]);
    });
}

// A narrow last panel takes one vector, which is half the work.
template <class Done>
INLINE void times_panel(const float *a, long from, long to, long depth, const float *panel,
                        long stride, long columns, Done done) {
    if (columns > LANES) times_panel<2>(a, from, to, depth, panel, stride, done);
    else times_panel<1>(a, from, to, depth, panel, stride, done);
}

// y[from:to, out] = activation(x w + bias)
template <int ACTIVATION>
void layer_forward(const float *x, const float *w, const float *bias, float *y, long from, long to,
                   long in, long out, float *panel) {
    for (long first = 0; first < out; first += PANEL) {
        long n = out - first;
        bool few = to - from <= 4 * TALL && n >= PANEL;  // read a few times: not worth packing
        if (!few) pack(w, in, out, first, panel);
        times_panel(x, from, to, in, few ? w + first : panel, few ? out : PANEL, n,
                    [&](long row, long column, vec sum) {
                        long left = n - column;
                        vec z = sum + load(bias + first + column, left);
                        store(y + row * out + first + column, activate(z, ACTIVATION), left);
                    });
    }
}

// into_x[from:to, in] = derivative(d w^T), where x is the output of an activation
template <int ACTIVATION>
void layer_backward(const float *d, const float *w, const float *x, float *into_x, long from,
                    long to, long in, long out, float *panel) {
    for (long first = 0; first < in; first += PANEL) {
        pack_transposed(w, out, in, first, panel);
        times_panel(d, from, to, out, panel, PANEL, in - first,
                    [&](long row, long column, vec sum) {
                        long left = in - first - column, at = row * in + first + column;
                        vec y = ACTIVATION == NONE ? vec{} : load(x + at, left);
                        store(into_x + at, derive(sum, y, ACTIVATION), left);
                    });
    }
}

// Columns [first, last) of x^T d, [in, out], and of the sums of d if there is room for them;
// x [rows, in], d [rows, out]. `first` is a multiple of PANEL; packed has DEEP rows of whole panels.
void weight_columns(const float *x, const float *d, long rows, long in, long out, long first,
                    long last, float *into_w, float *into_bias, float *packed) {
    if (into_bias) memset(into_bias + first, 0, 4 * (last - first));
    for (long k0 = 0; k0 < rows || k0 == 0; k0 += DEEP) {
        long depth = least(DEEP, rows - k0);
        for (long column = first; column < last; column += PANEL) {
            float *panel = packed + (column - first) * DEEP;
            pack(d + k0 * out, depth, out, column, panel);
            for (int c = 0; into_bias && column + c * LANES < last && c < 2; c++) {
                long n = last - column - c * LANES;
                vec total = load(into_bias + column + c * LANES, n);
                for (long k = 0; k < depth; k++) total += load(panel + k * PANEL + c * LANES);
                store(into_bias + column + c * LANES, total, n);
            }
        }
        in_blocks<TALL>(0, in, [&](long row, auto count) {
            constexpr int R = count;
            const float *own = x + k0 * in + row;
            auto panel = [&](long column, auto vectors) {
                constexpr int C = vectors;
                float *to = into_w + row * out + column;
                vec sum[R][C] = {};
                for (int r = 0; k0 && r < R; r++)
                    for (int c = 0; c < C; c++)
                        sum[r][c] = load(to + r * out + c * LANES, last - column - c * LANES);
                const float *from = packed + (column - first) * DEEP;
                product(sum, depth, [&](int r, long k) { return own[k * in + r]; },
                        [&](long k, int c) { return from + k * PANEL + c * LANES; });
                for (int r = 0; r < R; r++)
                    for (int c = 0; c < C; c++)
                        store(to + r * out + c * LANES, sum[r][c], last - column - c * LANES);
            };
            for (long column = first; column < last; column += PANEL)
                if (last - column > LANES) panel(column, Count<2>{});
                else panel(column, Count<1>{});
        });
    }
}

long widest(const long *widths, long depth) {
    long most = 0;
    for (long layer = 0; layer <= depth; layer++)
        most = widths[layer] > most ? widths[layer] : most;
    return most;
}

// The first of `all` panels of `cost` each whose middle is not before `at`.
long share(long at, long cost, long all) {
    long panel = at < cost / 2 ? 0 : (at - cost / 2 + cost - 1) / cost;
    return least(panel, all);
}

// body(k, from, to): this thread's part of the K N rows, one MLP at a time.
template <class Body> INLINE void each_part(long K, long N, Body body) {
    Part mine = part(K * N);
    for (long k = 0; k < K; k++) {
        long from = mine.from > k * N ? mine.from - k * N : 0, to = least(mine.to - k * N, N);
        if (from < to) body(k, from, to);
    }
}

}  // namespace

extern "C" {

// out [in, columns] = x^T d for x [rows, in] and d [rows, columns].
void outer_sum(long rows, long in, long columns, const float *x, const float *d, float *out,
               int threads) {
#pragma omp parallel num_threads(threads)
    {
        Part mine = part(ceil_div(columns, PANEL));
        Buffer packed((mine.to - mine.from) * PANEL * DEEP);
        if (mine.from < mine.to)
            weight_columns(x, d, rows, in, columns, mine.from * PANEL,
                           least(mine.to * PANEL, columns), out, nullptr, packed);
    }
}

// widths [depth + 1] of the input and of every layer, activations [depth], x[k] [N, widths[0]],
// parameters [2 depth] (weight and bias of each layer), outputs [depth] (each [K, N, width]).
void mlp_forward(long K, long N, long depth, const long *widths, const int *activations,
                 const float *const *x, const float *const *parameters, float *const *outputs,
                 int threads) {
#pragma omp parallel num_threads(threads)
    {
        Buffer panel(PANEL * widest(widths, depth));
        each_part(K, N, [&](long k, long from, long to) {
            for (long layer = 0; layer < depth; layer++) {
                long in = widths[layer], out = widths[layer + 1];
                auto run = activations[layer] == TANH   ? layer_forward<TANH>
                           : activations[layer] == RELU ? layer_forward<RELU>
                                                        : layer_forward<NONE>;
                run(layer ? outputs[layer - 1] + k * N * in : x[k],
                    parameters[2 * layer] + k * in * out, parameters[2 * layer + 1] + k * out,
                    outputs[layer] + k * N * out, from, to, in, out, panel);
            }
        });
    }
}

// gradients[k] [N, widths[depth]] are those of the outputs; deltas [depth] (each [K, N, width]) is room
// for the gradients before the activations. found holds into_x (a pointer for each k) if it is
// wanted, and parameters' gradients [2 depth] if they are.
void mlp_backward(long K, long N, long depth, const long *widths, const int *activations,
                  const float *const *x, const float *const *weights, const float *const *outputs,
                  const float *const *gradients, float *const *deltas, float *const *into_x,
                  float *const *into_parameters, int threads) {
#pragma omp parallel num_threads(threads)
    {
        Buffer packed((widest(widths, depth) + PANEL) * DEEP), panel(PANEL * widest(widths, depth));
        each_part(K, N, [&](long k, long from, long to) {
            long last = widths[depth];
            const float *y = outputs[depth - 1] + k * N * last;
            float *d = deltas[depth - 1] + k * N * last;
            for (long at = from * last; at < to * last; at += LANES) {
                long n = to * last - at;
                vec gradient = load(gradients[k] + at, n);
                store(d + at, derive(gradient, load(y + at, n), activations[depth - 1]), n);
            }
            for (long layer = depth - 1; layer >= (into_x ? 0 : 1); layer--) {
                long in = widths[layer], out = widths[layer + 1];
                int before = layer ? activations[layer - 1] : NONE;
                auto run = before == TANH   ? layer_backward<TANH>
                           : before == RELU ? layer_backward<RELU>
                                            : layer_backward<NONE>;
                run(deltas[layer] + k * N * out, weights[layer] + k * in * out,
                    layer ? outputs[layer - 1] + k * N * in : nullptr,
                    layer ? deltas[layer - 1] + k * N * in : into_x[k], from, to, in, out, panel);
            }
        });
        if (into_parameters) {
#pragma omp barrier
            long panels = 0, passed = 0;
            for (long layer = 0; layer < depth; layer++)
                panels += K * ceil_div(widths[layer + 1], PANEL) * widths[layer];
            Part mine = part(panels);  // each counts as many times as it has rows
            for (long k = 0; k < K; k++)
                for (long layer = 0; layer < depth; layer++) {
                    long in = widths[layer], out = widths[layer + 1], all = ceil_div(out, PANEL);
                    long from = share(mine.from - passed, in, all);
                    long to = share(mine.to - passed, in, all);
                    passed += all * in;
                    if (from < to)
                        weight_columns(layer ? outputs[layer - 1] + k * N * in : x[k],
                                       deltas[layer] + k * N * out, N, in, out, from * PANEL,
                                       least(to * PANEL, out),
                                       into_parameters[2 * layer] + k * in * out,
                                       into_parameters[2 * layer + 1] + k * out, packed);
                }
        }
    }
}
}
