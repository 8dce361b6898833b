// The update rules, each in one pass over a parameter, its gradient and its states. What is written may be what is
// read.
#pragma once
#include <cstring>

#include "elementwise.hpp"

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

template <typename T>
void sgd(ptrdiff_t count, const UpdateArrays<T>& arrays, const UpdateNumbers<T>& numbers, int threads) {
    const T *w = arrays.w, *dw = arrays.dw, rate = numbers.scalars[0];
    T* out = arrays.out;
    for_each_value<T, AnyNumber>(
        count, threads, [=](ptrdiff_t i) { store(out + i, load(w + i) - rate * load(dw + i)); },
        [=](ptrdiff_t i) { out[i] = w[i] - rate * dw[i]; });
}

template <typename T, bool NESTEROV>
void momentum_of(ptrdiff_t count, const UpdateArrays<T>& arrays, const UpdateNumbers<T>& numbers, int threads) {
    const T *w = arrays.w, *dw = arrays.dw, *velocity = arrays.states[0];
    const T rate = numbers.scalars[0], momentum = numbers.constants[0];
    T *out = arrays.out, *new_velocity = arrays.new_states[0];
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
            store(new_velocity + i, v);
        },
        [=](ptrdiff_t i) {
            T v = velocity[i];
            out[i] = step(w[i], dw[i], v);
            new_velocity[i] = v;
        });
}

// constants: momentum, and 1 for Nesterov's look-ahead or 0.
template <typename T>
void momentum(ptrdiff_t count, const UpdateArrays<T>& arrays, const UpdateNumbers<T>& numbers, int threads) {
    (numbers.constants[1] != 0 ? momentum_of<T, true> : momentum_of<T, false>)(count, arrays, numbers, threads);
}

// constants: decay, 1 - decay, epsilon.
template <typename T>
void rmsprop(ptrdiff_t count, const UpdateArrays<T>& arrays, const UpdateNumbers<T>& numbers, int threads) {
    const T *w = arrays.w, *dw = arrays.dw, *cache = arrays.states[0];
    const T rate = numbers.scalars[0], decay = numbers.constants[0], rest = numbers.constants[1];
    const T epsilon = numbers.constants[2];
    T *out = arrays.out, *new_cache = arrays.new_states[0];
    for_each_value<T, ZeroForTiny>(
        count, threads,
        [=](ptrdiff_t i) {
            const Vector<T> gradient = load(dw + i), c = decay * load(cache + i) + rest * (gradient * gradient);
            store(out + i, load(w + i) - rate * gradient / (square_root<T>(c) + epsilon));
            store(new_cache + i, c);
        },
        [=](ptrdiff_t i) {
            const T gradient = dw[i], c = decay * cache[i] + rest * (gradient * gradient);
            out[i] = w[i] - rate * gradient / (std::sqrt(c) + epsilon);
            new_cache[i] = c;
        });
}

// scalars: the rate and the second moment's factor, both over their bias, and the decay of w; constants: beta1, 1 -
// beta1, beta2, 1 - beta2, epsilon.
template <typename T>
void adam(ptrdiff_t count, const UpdateArrays<T>& arrays, const UpdateNumbers<T>& numbers, int threads) {
    const T *w = arrays.w, *dw = arrays.dw, *m = arrays.states[0], *v = arrays.states[1];
    const T rate = numbers.scalars[0], correction = numbers.scalars[1], shrink = numbers.scalars[2];
    const T beta1 = numbers.constants[0], rest1 = numbers.constants[1], beta2 = numbers.constants[2];
    const T rest2 = numbers.constants[3], epsilon = numbers.constants[4];
    T *out = arrays.out, *new_m = arrays.new_states[0], *new_v = arrays.new_states[1];
    for_each_value<T, ZeroForTiny>(
        count, threads,
        [=](ptrdiff_t i) {
            const Vector<T> gradient = load(dw + i), parameter = load(w + i);
            const Vector<T> mean = beta1 * load(m + i) + rest1 * gradient;
            const Vector<T> square = beta2 * load(v + i) + rest2 * (gradient * gradient);
            store(new_m + i, mean);
            store(new_v + i, square);
            const Vector<T> root = square_root<T>(square * correction) + epsilon;
            store(out + i, parameter - (rate * mean / root + shrink * parameter));
        },
        [=](ptrdiff_t i) {
            const T gradient = dw[i], parameter = w[i];
            const T mean = beta1 * m[i] + rest1 * gradient;
            const T square = beta2 * v[i] + rest2 * (gradient * gradient);
            new_m[i] = mean;
            new_v[i] = square;
            const T root = std::sqrt(square * correction) + epsilon;
            out[i] = parameter - (rate * mean / root + shrink * parameter);
        });
}

// The kernels under the names that gconv/backends/update_rules.py gives them, and how many states each has.
template <typename T>
constexpr UpdateKernel<T> UPDATE_KERNELS[] = {
    {"sgd", 0, sgd<T>}, {"momentum", 1, momentum<T>}, {"rmsprop", 1, rmsprop<T>}, {"adam", 2, adam<T>}};

template <typename T>
const UpdateKernel<T>* update_kernel(const char* name) {
    for (const UpdateKernel<T>& kernel : UPDATE_KERNELS<T>)
        if (std::strcmp(kernel.name, name) == 0) return &kernel;
    return nullptr;
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
