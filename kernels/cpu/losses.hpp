// Losses on class scores in float32, each sample's in one pass over its row.
#pragma once
#include "elementary.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// exp(x) for x <= 0, as accurate as the library's to a unit in the last place or two; 0 below the smallest normal.
GCONV_INLINE Vector<float> exponential(Vector<float> x) {
    // 2^k * e^r with |r| <= log(2) / 2; the logarithm in two parts, so that k times the first is exact.
    constexpr float rounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const Vector<float> clipped = x < -104.0f ? splat(-104.0f) : x;
    const Vector<float> shifted = clipped * 1.44269504f + rounder, k = shifted - rounder;
    const Vector<float> r = clipped - k * 0.693359375f + k * 2.12194440e-4f;
    Vector<float> p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const Integers<float> bits = (Integers<float>)shifted << 23;
    const Vector<float> scaled = (Vector<float>)((Integers<float>)p + bits);
    return x < -87.0f ? Vector<float>{} : (x == x ? scaled : x);
}

// Writes the exponentials of a row's scores less their maximum, and returns their sum.
inline float write_exponentials(const float* x, ptrdiff_t classes, float most, float* out) {
    Vector<float> total{};
    ptrdiff_t c = 0;
    for (; c + LANES<float> <= classes; c += LANES<float>) {
        const Vector<float> value = exponential(load(x + c) - most);
        store(out + c, value);
        total += value;
    }
    if (c < classes) {
        const float least = -__builtin_inff();
        const Vector<float> value = exponential(load_first(x + c, classes - c, least) - most);
        store_first(out + c, value, classes - c);
        total += value;
    }
    return sum<float>(total);
}

// Mean cross entropy of x (N, C) and labels y (N,), and its gradient.
inline double softmax_loss(ptrdiff_t samples, ptrdiff_t classes, const float* x, const int64_t* y, float* dx) {
    double loss = 0;
    const float share = 1.0f / static_cast<float>(samples);
    for (ptrdiff_t n = 0; n < samples; ++n, x += classes, dx += classes) {
        float most = x[0];
        for (ptrdiff_t c = 1; c < classes; ++c) most = ((x[c] > most) | (x[c] != x[c])) ? x[c] : most;
        const float total = write_exponentials(x, classes, most, dx);
        // log(total) - shifted, not -log(probability): a probability may underflow to 0.
        loss += std::log(static_cast<double>(total)) - static_cast<double>(x[y[n]] - most);
        const float scale = share / total;
        for (ptrdiff_t c = 0; c < classes; ++c) dx[c] *= scale;
        dx[y[n]] -= share;
    }
    return loss / static_cast<double>(samples);
}

// Mean multiclass hinge loss of x (N, C) and labels y (N,), and its gradient.
inline double svm_loss(ptrdiff_t samples, ptrdiff_t classes, const float* x, const int64_t* y, float* dx) {
    double loss = 0;
    const float share = 1.0f / static_cast<float>(samples);
    for (ptrdiff_t n = 0; n < samples; ++n, x += classes, dx += classes) {
        const float own = x[y[n]];
        ptrdiff_t above = 0;
        for (ptrdiff_t c = 0; c < classes; ++c) {
            const float margin = x[c] - own + 1;
            const bool counts = !(margin <= 0) & (c != y[n]);  // a NaN score must reach the loss
            loss += counts ? static_cast<double>(margin) : 0;
            dx[c] = margin > 0 && counts ? share : 0.0f;
            above += margin > 0 && counts;
        }
        dx[y[n]] -= share * static_cast<float>(above);
    }
    return loss / static_cast<double>(samples);
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
