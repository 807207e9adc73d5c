// Vectors of the processor's width, and the one product that every kernel is made of.
//
// The width is fixed when a file is compiled: once for each kind of processor, see library.py. Each
// element of a product is one chain of fused multiplications and additions in the order of the
// depth, whatever the width, the number of rows and the number of threads: so a row's result does
// not depend on the rows beside it.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16, TALL = 12, SHORT = 4;
#elif defined(__AVX2__)
constexpr int LANES = 8, TALL = 6, SHORT = 2;
#else
constexpr int LANES = 4, TALL = 4, SHORT = 2;
#endif
// TALL and SHORT: rows of a tile of two and of four vectors that the registers hold.

#define INLINE inline __attribute__((always_inline))
#define INLINE_BODY __attribute__((always_inline))  // of a lambda

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec splat(float x) { return x - vec{}; }

// The first n floats at p, zeros after them.
INLINE vec load(const float *p, long n = LANES) {
    if (n >= LANES) return *(const loose *)p;
    vec x{};
    memcpy(&x, p, 4 * n);
    return x;
}

INLINE void store(float *p, vec x, long n = LANES) {
    if (n >= LANES) *(loose *)p = x;
    else memcpy(p, &x, 4 * n);
}

// exp(x) for |x| <= 80, beyond which it stays: 2^n e^r with |r| <= ln(2) / 2, to 2 units in the last
// place. NaN stays NaN.
INLINE vec exp(vec x) {
    x = x < splat(-80.f) ? splat(-80.f) : x;
    x = x > splat(80.f) ? splat(80.f) : x;
    const vec magic = splat(12582912.f);  // 1.5 * 2^23: the sum's last bits are the nearest integer
    vec shifted = x * 1.44269504f + magic, n = shifted - magic;
    vec r = x - n * 0.693145752f - n * 1.42860677e-6f;  // ln 2 in two parts
    vec p = splat(1.f / 720);
    p = p * r + 1.f / 120;
    p = p * r + 1.f / 24;
    p = p * r + 1.f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.f;
    p = p * r + 1.f;
    return p * (vec)(((ints)shifted - 0x4B400000 + 127) << 23);
}

INLINE vec sigmoid(vec x) { return 1.f / (1.f + exp(-x)); }
INLINE vec tanh(vec x) { return 2.f * sigmoid(x + x) - 1.f; }

// sum[r][c] += value(r, k) * weight(k, c) for all k < depth.
template <int R, int C, class Value, class Weight>
INLINE void product(vec (&sum)[R][C], long depth, Value value, Weight weight) {
    for (long k = 0; k < depth; k++) {
        vec b[C];
#pragma GCC unroll 8
        for (int c = 0; c < C; c++) {
            vec x = load(weight(k, c));
#ifdef __x86_64__
            if constexpr (R > 1) asm("" : "+v"(x));  // gcc would read it again for each row
#endif
            b[c] = x;
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            vec a = splat(value(r, k));
#pragma GCC unroll 8
            for (int c = 0; c < C; c++) sum[r][c] += a * b[c];
        }
    }
}

template <int N> using Count = std::integral_constant<int, N>;

// body(row, Count<n>) for blocks of n rows that cover [from, to): R as often as they fit, then half
// as many, and so on.
template <int R, class Body> INLINE void in_blocks(long from, long to, Body body) {
    for (; to - from >= R; from += R) body(from, Count<R>{});
    if constexpr (R > 1) in_blocks<R / 2>(from, to, body);
}

// Uninitialised floats, aligned to a line of the cache.
class Buffer {
  public:
    explicit Buffer(long n) : floats((float *)std::aligned_alloc(64, (4 * n + 64) / 64 * 64)) {}
    ~Buffer() { std::free(floats); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    operator float *() const { return floats; }

  private:
    float *floats;
};

INLINE long ceil_div(long a, long b) { return (a + b - 1) / b; }
INLINE long least(long a, long b) { return a < b ? a : b; }

// This thread's part of n items, and a wait for the others; alone outside a parallel region.
struct Part {
    long from, to;
};
#ifdef _OPENMP
INLINE Part part(long n) {
    long thread = omp_get_thread_num(), threads = omp_get_num_threads();
    return {n * thread / threads, n * (thread + 1) / threads};
}
#else
INLINE Part part(long n) { return {0, n}; }
#endif
