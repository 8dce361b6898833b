// What is done value by value: activations, and the penalty of weights.
#pragma once
#include "elementary.hpp"
#include "kernels.hpp"
#include "parallel.hpp"

namespace gconv {
namespace GCONV_LEVEL {

struct AnyNumber {};

// Calls vector(i) for whole vectors and single(i) for the rest of [0, count), in blocks that threads share. While a
// block is done a Mode exists: AnyNumber, or another that changes how the processor computes.
template <typename T, typename Mode, typename VectorStep, typename SingleStep>
static inline void for_each_value(ptrdiff_t count, int threads, const VectorStep& vector, const SingleStep& single) {
    constexpr ptrdiff_t BLOCK = 64 * 1024 / sizeof(T);
    for_each_task(threads, divide_up(count, BLOCK), [&](ptrdiff_t block, int) {
        [[maybe_unused]] const Mode mode;
        ptrdiff_t i = block * BLOCK;
        const ptrdiff_t end = smaller(count, i + BLOCK);
        for (; i + LANES<T> <= end; i += LANES<T>) vector(i);
        for (; i < end; ++i) single(i);
    });
}

template <typename T>
void relu_forward(ptrdiff_t count, const T* x, T* out, int threads) {
    for_each_value<T, AnyNumber>(
        count, threads,
        [=](ptrdiff_t i) {
            const Vector<T> value = load(x + i);
            store(out + i, value <= 0 ? Vector<T>{} : value);  // NaN stays, -0 becomes 0
        },
        [=](ptrdiff_t i) { out[i] = x[i] <= 0 ? T(0) : x[i]; });
}

// A selection, not a product: an infinite gradient that is stopped must not become NaN.
template <typename T>
void relu_backward(ptrdiff_t count, const T* dout, const T* x, T* dx, int threads) {
    for_each_value<T, AnyNumber>(
        count, threads, [=](ptrdiff_t i) { store(dx + i, load(x + i) > 0 ? load(dout + i) : Vector<T>{}); },
        [=](ptrdiff_t i) { dx[i] = x[i] > 0 ? dout[i] : T(0); });
}

// Returns the sum of squares, and adds reg * w to dw. The partial sums are fixed by the count alone, and in float64.
template <typename T>
double l2_penalty(ptrdiff_t count, const T* w, T reg, T* dw, int threads) {
    constexpr ptrdiff_t PARTS = 64;
    double sums[PARTS];
    for_each_task(threads, PARTS, [&](ptrdiff_t part, int) {
        ptrdiff_t i = part * count / PARTS;
        const ptrdiff_t end = (part + 1) * count / PARTS;
        double total = 0;
        while (i < end) {
            const ptrdiff_t stop = smaller(end, i + 4096);
            Vector<T> squares{};
            for (; i + LANES<T> <= stop; i += LANES<T>) {
                const Vector<T> value = load(w + i);
                squares += value * value;
                store(dw + i, load(dw + i) + reg * value);
            }
            T rest = 0;
            for (; i < stop; ++i) {
                rest += w[i] * w[i];
                dw[i] += reg * w[i];
            }
            total += static_cast<double>(sum<T>(squares)) + static_cast<double>(rest);
        }
        sums[part] = total;
    });
    double total = 0;
    for (double part : sums) total += part;
    return total;
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
