// Losses on class scores, each sample's in one pass over its row.
#pragma once
#include "elementary.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// The place of the first label outside [0, classes), or -1.
inline ptrdiff_t wrong_label(const int64_t* y, ptrdiff_t samples, ptrdiff_t classes) {
    for (ptrdiff_t n = 0; n < samples; ++n)
        if (y[n] < 0 || y[n] >= classes) return n;
    return -1;
}

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

// The sum and the exponentials of a row's scores less their maximum.
template <typename T>
struct RowExponentials {
    static T write(const T* x, ptrdiff_t classes, T most, T* out) {
        T total = 0;
        for (ptrdiff_t c = 0; c < classes; ++c) total += out[c] = std::exp(x[c] - most);
        return total;
    }
};

template <>
struct RowExponentials<float> {
    static float write(const float* x, ptrdiff_t classes, float most, float* out) {
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
};

// Mean cross entropy of x (N, C) and labels y (N,), and its gradient.
template <typename T>
double softmax_loss(ptrdiff_t samples, ptrdiff_t classes, const T* x, const int64_t* y, T* dx) {
    double loss = 0;
    const T share = T(1) / static_cast<T>(samples);
    for (ptrdiff_t n = 0; n < samples; ++n, x += classes, dx += classes) {
        T most = x[0];
        for (ptrdiff_t c = 1; c < classes; ++c) most = ((x[c] > most) | (x[c] != x[c])) ? x[c] : most;
        const T total = RowExponentials<T>::write(x, classes, most, dx);
        // log(total) - shifted, not -log(probability): a probability may underflow to 0.
        loss += std::log(static_cast<double>(total)) - static_cast<double>(x[y[n]] - most);
        const T scale = share / total;
        for (ptrdiff_t c = 0; c < classes; ++c) dx[c] *= scale;
        dx[y[n]] -= share;
    }
    return loss / static_cast<double>(samples);
}

// Mean multiclass hinge loss of x (N, C) and labels y (N,), and its gradient.
template <typename T>
double svm_loss(ptrdiff_t samples, ptrdiff_t classes, const T* x, const int64_t* y, T* dx) {
    double loss = 0;
    const T share = T(1) / static_cast<T>(samples);
    for (ptrdiff_t n = 0; n < samples; ++n, x += classes, dx += classes) {
        const T own = x[y[n]];
        ptrdiff_t above = 0;
        for (ptrdiff_t c = 0; c < classes; ++c) {
            const T margin = x[c] - own + 1;
            const bool counts = !(margin <= 0) & (c != y[n]);  // a NaN score must reach the loss
            loss += counts ? static_cast<double>(margin) : 0;
            dx[c] = margin > 0 && counts ? share : T(0);
            above += margin > 0 && counts;
        }
        dx[y[n]] -= share * static_cast<T>(above);
    }
    return loss / static_cast<double>(samples);
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
