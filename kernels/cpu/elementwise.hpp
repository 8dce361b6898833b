// What is done value by value: activations, and update rules in one pass over parameters, gradients and states. The
// `out` of a rule may be its `w`.
#pragma once
#include "elementary.hpp"
#include "kernels.hpp"
#include "parallel.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace gconv {
namespace GCONV_LEVEL {

// While one exists, results too small for a normal number are zero. The moments of parameters whose gradient stays zero
// decay into such numbers, on which every operation takes a hundred times as long.
class ZeroForTiny {
  public:
#if defined(__SSE2__)
    ZeroForTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~ZeroForTiny() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#elif defined(__aarch64__)
    ZeroForTiny() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" : : "r"(before_ | (uint64_t(1) << 24)));
    }
    ~ZeroForTiny() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

  private:
    uint64_t before_;
#endif
};

// Calls vector(i) for whole vectors and single(i) for the rest of [0, count), in blocks that threads share.
struct AnyNumber {};

// Mode: AnyNumber or ZeroForTiny.
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

template <typename T>
void sgd_step(ptrdiff_t count, const T* w, const T* dw, T rate, T* out, int threads) {
    for_each_value<T, AnyNumber>(
        count, threads, [=](ptrdiff_t i) { store(out + i, load(w + i) - rate * load(dw + i)); },
        [=](ptrdiff_t i) { out[i] = w[i] - rate * dw[i]; });
}

template <typename T, bool NESTEROV>
void momentum_step_of(ptrdiff_t count, const T* w, const T* dw, T* velocity, T rate, T momentum, T* out, int threads) {
    const auto step = [=](const auto& parameter, const auto& gradient, auto& v) {
        const auto down = rate * gradient;
        v = momentum * v - down;
        return NESTEROV ? parameter + (momentum * v - down) : parameter + v;
    };
    for_each_value<T, ZeroForTiny>(
        count, threads,
        [=](ptrdiff_t i) {
            Vector<T> v = load(velocity + i);
            store(out + i, Vector<T>(step(load(w + i), load(dw + i), v)));
            store(velocity + i, v);
        },
        [=](ptrdiff_t i) { out[i] = step(w[i], dw[i], velocity[i]); });
}

template <typename T>
void momentum_step(ptrdiff_t count, const T* w, const T* dw, T* velocity, T rate, T momentum, bool nesterov, T* out,
                   int threads) {
    (nesterov ? momentum_step_of<T, true> : momentum_step_of<T, false>)(count, w, dw, velocity, rate, momentum, out,
                                                                        threads);
}

template <typename T>
void rmsprop_step(ptrdiff_t count, const T* w, const T* dw, T* cache, T rate, T decay, T rest, T epsilon, T* out,
                  int threads) {
    for_each_value<T, ZeroForTiny>(
        count, threads,
        [=](ptrdiff_t i) {
            const Vector<T> gradient = load(dw + i), c = decay * load(cache + i) + rest * (gradient * gradient);
            store(cache + i, c);
            store(out + i, load(w + i) - rate * gradient / (square_root<T>(c) + epsilon));
        },
        [=](ptrdiff_t i) {
            cache[i] = decay * cache[i] + rest * (dw[i] * dw[i]);
            out[i] = w[i] - rate * dw[i] / (std::sqrt(cache[i]) + epsilon);
        });
}

template <typename T>
void adam_step(ptrdiff_t count, const T* w, const T* dw, T* m, T* v, const AdamScalars<T>& scalars, T* out,
               int threads) {
    const AdamScalars<T> a = scalars;
    for_each_value<T, ZeroForTiny>(
        count, threads,
        [=](ptrdiff_t i) {
            const Vector<T> gradient = load(dw + i), parameter = load(w + i);
            const Vector<T> mean = a.beta1 * load(m + i) + a.rest1 * gradient;
            const Vector<T> square = a.beta2 * load(v + i) + a.rest2 * (gradient * gradient);
            store(m + i, mean);
            store(v + i, square);
            const Vector<T> root = square_root<T>(square * a.correction) + a.epsilon;
            store(out + i, parameter - (a.rate * mean / root + a.shrink * parameter));
        },
        [=](ptrdiff_t i) {
            m[i] = a.beta1 * m[i] + a.rest1 * dw[i];
            v[i] = a.beta2 * v[i] + a.rest2 * (dw[i] * dw[i]);
            const T root = std::sqrt(v[i] * a.correction) + a.epsilon;
            out[i] = w[i] - (a.rate * m[i] / root + a.shrink * w[i]);
        });
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
