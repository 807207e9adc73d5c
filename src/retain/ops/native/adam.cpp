// One clipped step of Adam over all parameters.
#include "vector.hpp"
#include <cmath>

namespace {

double sum_of_squares(const float *x, long n) {
    vec sums[4] = {};  // four chains, so that additions need not wait for each other
    long at = 0;
    for (; at + 4 * LANES <= n; at += 4 * LANES)
        for (int i = 0; i < 4; i++) {
            vec y = load(x + at + i * LANES);
            sums[i] += y * y;
        }
    for (; at < n; at += LANES) {
        vec y = load(x + at, n - at);
        sums[0] += y * y;
    }
    vec all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    double sum = 0;
    for (int i = 0; i < LANES; i++) sum += all[i];
    return sum;
}

}  // namespace

extern "C" {

// P parameters of the given sizes, their gradients and their moments. norms [P + 1] becomes the norms of
// the gradients, and of all of them. If that or the loss is not finite, broken becomes 1. Nothing
// else changes if broken or skip is not 0; otherwise count grows by 1, and the gradients are divided by
// max(norm / most, 1), unless most is 0. Means and squares below the tiny ones become 0.
void adam_step(long P, const long *sizes, float *const *parameters, const float *const *gradients,
               float *const *means, float *const *squares, float *count, const float *loss,
               float *broken, const float *skip, float *norms, double rate, double beta1,
               double beta2, double eps, double most, double tiny_mean, double tiny_square) {
    double sum = 0;
    for (long i = 0; i < P; i++) {
        double own = sum_of_squares(gradients[i], sizes[i]);
        norms[i] = (float)std::sqrt(own);
        sum += own;
    }
    float norm = (float)std::sqrt(sum);
    norms[P] = norm;
    if (!std::isfinite(norm + *loss)) *broken = 1;
    if (*broken != 0 || (skip && *skip != 0)) return;
    *count += 1;
    float scale = most > 0 && norm > most ? (float)(most / norm) : 1.f;
    float size = (float)(rate / (1 - std::pow(beta1, *count))), small = (float)eps;
    float root = (float)(1 / std::sqrt(1 - std::pow(beta2, *count)));
    float new1 = (float)(1 - beta1), old2 = (float)beta2, new2 = (float)(1 - beta2);
    float least1 = (float)tiny_mean, least2 = (float)tiny_square;
    for (long i = 0; i < P; i++) {
        float *p = parameters[i], *m = means[i], *v = squares[i];
        const float *g = gradients[i];
#pragma GCC ivdep
        for (long j = 0; j < sizes[i]; j++) {
            float gradient = g[j] * scale;
            float mean = m[j] + new1 * (gradient - m[j]);
            float square = old2 * v[j] + new2 * gradient * gradient;
            m[j] = mean = std::fabs(mean) < least1 ? 0.f : mean;  // NaN stays
            v[j] = square = square < least2 ? 0.f : square;
            p[j] -= size * mean / (std::sqrt(square) * root + small);
        }
    }
}
}
