// Batch normalisation of x (N, C, P): a channel at a time, which for most layers stays in the second-level cache, so
// that three passes read memory once.
#pragma once
#include "parallel.hpp"
#include <cmath>

#include "kernels.hpp"
#include "simd.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// Sums over a channel of what `term(index)` gives, a vector, and `single(index)`, one value: a vector sum a row, then
// the rows in float64.
template <typename T, int SUMS, typename Term, typename Single>
GCONV_INLINE void sum_channel(const ChannelShape& s, const Term& term, const Single& single, double* totals) {
    for (int i = 0; i < SUMS; ++i) totals[i] = 0;
    for (ptrdiff_t n = 0; n < s.images; ++n) {
        const ptrdiff_t begin = n * s.pitch();
        Vector<T> first[SUMS] = {}, second[SUMS] = {};
        ptrdiff_t p = 0;
        for (; p + 2 * LANES<T> <= s.pixels; p += 2 * LANES<T>) {
            term(begin + p, first);
            term(begin + p + LANES<T>, second);
        }
        for (; p + LANES<T> <= s.pixels; p += LANES<T>) term(begin + p, first);
        T rest[SUMS] = {};
        for (; p < s.pixels; ++p) single(begin + p, rest);
        for (int i = 0; i < SUMS; ++i) totals[i] += static_cast<double>(sum<T>(first[i] + second[i]) + rest[i]);
    }
}

// Calls map(i) for whole vectors of a channel and single(i) for the rest.
template <typename T, typename Map, typename Single>
GCONV_INLINE void map_channel(const ChannelShape& s, const Map& map, const Single& single) {
    for (ptrdiff_t n = 0; n < s.images; ++n) {
        const ptrdiff_t begin = n * s.pitch();
        ptrdiff_t p = 0;
        for (; p + LANES<T> <= s.pixels; p += LANES<T>) map(begin + p);
        for (; p < s.pixels; ++p) single(begin + p);
    }
}

template <typename Value>
GCONV_INLINE Value positive_part(Value value, bool relu) {
    return relu ? (value < 0 ? Value{} : value) : value;  // NaN stays
}

// out = (x - mean) * scale + shift, negative values cut with relu.
template <typename T>
void normalize_channel(const ChannelShape& s, const T* x, T mean, T scale, T shift, bool relu, T* out) {
    map_channel<T>(
        s, [=](ptrdiff_t i) { store(out + i, positive_part<Vector<T>>((load(x + i) - mean) * scale + shift, relu)); },
        [=](ptrdiff_t i) { out[i] = positive_part<T>((x[i] - mean) * scale + shift, relu); });
}

// Also writes mean and biased variance, (C,). Two passes: E[x^2] - E[x]^2 loses every digit where the mean is large.
template <typename T>
void batchnorm_train(const ChannelShape& s, const T* x, const T* gamma, const T* beta, double eps, bool relu, T* out,
                     T* mean, T* var, int threads) {
    for_each_task(threads, s.channels, [&](ptrdiff_t c, int) {
        const T* from = x + c * s.pixels;
        double totals[2];
        sum_channel<T, 1>(
            s, [=](ptrdiff_t i, Vector<T>* sums) { sums[0] += load(from + i); },
            [=](ptrdiff_t i, T* sums) { sums[0] += from[i]; }, totals);
        const double count = static_cast<double>(s.count());
        const T first = static_cast<T>(totals[0] / count);
        sum_channel<T, 2>(
            s,
            [=](ptrdiff_t i, Vector<T>* sums) {
                const Vector<T> d = load(from + i) - first;
                sums[0] += d;
                sums[1] += d * d;
            },
            [=](ptrdiff_t i, T* sums) {
                const T d = from[i] - first;
                sums[0] += d;
                sums[1] += d * d;
            },
            totals);
        // What the first mean was rounded by: a constant channel is then 0, however large the constant is.
        const double off = totals[0] / count, spread = totals[1] / count - off * off;
        const T centre = static_cast<T>(static_cast<double>(first) + off);
        mean[c] = centre;
        var[c] = static_cast<T>(spread < 0 ? 0 : spread);
        const T scale = static_cast<T>(static_cast<double>(gamma[c]) / std::sqrt(static_cast<double>(var[c]) + eps));
        normalize_channel(s, from, centre, scale, beta[c], relu, out + c * s.pixels);
    });
}

template <typename T>
void batchnorm_test(const ChannelShape& s, const T* x, const T* gamma, const T* beta, const T* mean, const T* var,
                    double eps, bool relu, T* out, int threads) {
    for_each_task(threads, s.channels, [&](ptrdiff_t c, int) {
        const T scale = static_cast<T>(static_cast<double>(gamma[c]) / std::sqrt(static_cast<double>(var[c]) + eps));
        normalize_channel(s, x + c * s.pixels, mean[c], scale, beta[c], relu, out + c * s.pixels);
    });
}

// dx = gamma / std * (dout - mean(dout) - x_hat * mean(dout * x_hat)), where a ReLU after the normalisation, whose
// output is `out`, stopped no part of dout.
template <typename T>
void batchnorm_backward(const ChannelShape& s, const T* dout, const T* out, const T* x, const T* gamma, const T* mean,
                        const T* var, double eps, T* dx, T* dgamma, T* dbeta, int threads) {
    for_each_task(threads, s.channels, [&](ptrdiff_t c, int) {
        const T* from = x + c * s.pixels;
        const T *gradients = dout + c * s.pixels, *outputs = out ? out + c * s.pixels : nullptr;
        const auto vector = [=](ptrdiff_t i) {
            const Vector<T> d = load(gradients + i);
            return outputs ? (load(outputs + i) > 0 ? d : Vector<T>{}) : d;
        };
        const auto single = [=](ptrdiff_t i) { return outputs && !(outputs[i] > 0) ? T(0) : gradients[i]; };
        T* to = dx + c * s.pixels;
        const T centre = mean[c];
        double totals[2];
        sum_channel<T, 2>(
            s,
            [=](ptrdiff_t i, Vector<T>* sums) {
                const Vector<T> d = vector(i);
                sums[0] += d;
                sums[1] += d * (load(from + i) - centre);
            },
            [=](ptrdiff_t i, T* sums) {
                sums[0] += single(i);
                sums[1] += single(i) * (from[i] - centre);
            },
            totals);
        const double count = static_cast<double>(s.count()), inverse = 1 / std::sqrt(static_cast<double>(var[c]) + eps);
        dbeta[c] = static_cast<T>(totals[0]);
        dgamma[c] = static_cast<T>(totals[1] * inverse);
        const T average = static_cast<T>(totals[0] / count);
        const T slope = static_cast<T>(totals[1] * inverse * inverse / count);
        const T scale = static_cast<T>(static_cast<double>(gamma[c]) * inverse);
        map_channel<T>(
            s, [=](ptrdiff_t i) { store(to + i, scale * (vector(i) - average - (load(from + i) - centre) * slope)); },
            [=](ptrdiff_t i) { to[i] = scale * (single(i) - average - (from[i] - centre) * slope); });
    });
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
