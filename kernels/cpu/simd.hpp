// Vectors of the instruction set that a file is compiled for: GCC's and Clang's vector types, so that one text
// serves AVX-512, AVX2, SSE2 and NEON. Everything is in a namespace per level: the linker must not merge code of two.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#ifndef GCONV_LEVEL
#error "GCONV_LEVEL names the namespace of the instruction set"
#endif

#if defined(__AVX512F__)
#define GCONV_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define GCONV_VECTOR_BYTES 32
#else
#define GCONV_VECTOR_BYTES 16
#endif

#define GCONV_INLINE inline __attribute__((always_inline))

namespace gconv {
namespace GCONV_LEVEL {

template <typename T>
struct Simd;

// Integer: a signed integer of T's size, what a comparison gives. Unaligned: for loads and stores.
#define GCONV_SIMD(T, I)                                                                                         \
    template <>                                                                                                  \
    struct Simd<T> {                                                                                             \
        typedef T Vector __attribute__((vector_size(GCONV_VECTOR_BYTES)));                                       \
        typedef I Integers __attribute__((vector_size(GCONV_VECTOR_BYTES)));                                     \
        typedef T Unaligned __attribute__((vector_size(GCONV_VECTOR_BYTES), aligned(sizeof(T))));                \
        typedef uint8_t Bytes __attribute__((vector_size(GCONV_VECTOR_BYTES / sizeof(T))));                      \
        typedef uint8_t UnalignedBytes __attribute__((vector_size(GCONV_VECTOR_BYTES / sizeof(T)), aligned(1))); \
        using Integer = I;                                                                                       \
        static constexpr int lanes = GCONV_VECTOR_BYTES / sizeof(T);                                             \
    };
GCONV_SIMD(float, int32_t)
GCONV_SIMD(double, int64_t)
#undef GCONV_SIMD

template <typename T>
using Vector = typename Simd<T>::Vector;
template <typename T>
using Integers = typename Simd<T>::Integers;
template <typename T>
constexpr int LANES = Simd<T>::lanes;

#if GCONV_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

constexpr ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
constexpr ptrdiff_t larger(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
constexpr ptrdiff_t divide_up(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }
constexpr ptrdiff_t round_up(ptrdiff_t a, ptrdiff_t b) { return divide_up(a, b) * b; }

// Lane numbers 0, 1, 2, ...
template <typename T>
GCONV_INLINE Integers<T> lane_numbers() {
    Integers<T> out{};
    for (int i = 0; i < LANES<T>; ++i) out[i] = i;
    return out;
}

template <typename T>
GCONV_INLINE Vector<T> load(const T* p) {
    return *reinterpret_cast<const typename Simd<T>::Unaligned*>(p);
}

template <typename T>
GCONV_INLINE void store(T* p, Vector<T> v) {
    *reinterpret_cast<typename Simd<T>::Unaligned*>(p) = v;
}

// Subtracting +0 changes no value, also not -0, and compilers drop it.
template <typename T>
GCONV_INLINE Vector<T> splat(T value) {
    return value - Vector<T>{};
}

// The first `count` lanes, 0 <= count <= LANES; what is not among them is `rest`, or not written.
template <typename T>
GCONV_INLINE Vector<T> load_first(const T* p, ptrdiff_t count, T rest) {
    T lanes[LANES<T>];
    for (ptrdiff_t i = 0; i < LANES<T>; ++i) lanes[i] = i < count ? p[i] : rest;
    return load(lanes);
}

template <typename T>
GCONV_INLINE void store_first(T* p, Vector<T> v, ptrdiff_t count) {
    T lanes[LANES<T>];
    store(lanes, v);
    for (ptrdiff_t i = 0; i < count; ++i) p[i] = lanes[i];
}

#if GCONV_VECTOR_BYTES == 64
GCONV_INLINE Vector<float> load_first(const float* p, ptrdiff_t count, float rest) {
    const auto mask = static_cast<__mmask16>((1u << larger(count, 0)) - 1);
    return (Vector<float>)_mm512_mask_loadu_ps((__m512)splat(rest), mask, p);
}
GCONV_INLINE Vector<double> load_first(const double* p, ptrdiff_t count, double rest) {
    const auto mask = static_cast<__mmask8>((1u << larger(count, 0)) - 1);
    return (Vector<double>)_mm512_mask_loadu_pd((__m512d)splat(rest), mask, p);
}
GCONV_INLINE void store_first(float* p, Vector<float> v, ptrdiff_t count) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), (__m512)v);
}
GCONV_INLINE void store_first(double* p, Vector<double> v, ptrdiff_t count) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << count) - 1), (__m512d)v);
}
#elif GCONV_VECTOR_BYTES == 32
GCONV_INLINE Vector<float> load_first(const float* p, ptrdiff_t count, float rest) {
    const Integers<float> mask = lane_numbers<float>() < static_cast<int32_t>(count);
    return mask ? (Vector<float>)_mm256_maskload_ps(p, (__m256i)mask) : splat(rest);
}
GCONV_INLINE Vector<double> load_first(const double* p, ptrdiff_t count, double rest) {
    const Integers<double> mask = lane_numbers<double>() < static_cast<int64_t>(count);
    return mask ? (Vector<double>)_mm256_maskload_pd(p, (__m256i)mask) : splat(rest);
}
GCONV_INLINE void store_first(float* p, Vector<float> v, ptrdiff_t count) {
    _mm256_maskstore_ps(p, (__m256i)(lane_numbers<float>() < static_cast<int32_t>(count)), (__m256)v);
}
GCONV_INLINE void store_first(double* p, Vector<double> v, ptrdiff_t count) {
    _mm256_maskstore_pd(p, (__m256i)(lane_numbers<double>() < static_cast<int64_t>(count)), (__m256d)v);
}
#endif

// As many of the lanes as `count` says, which may be more than there are, or none.
template <typename T>
GCONV_INLINE void store_up_to(T* p, Vector<T> v, ptrdiff_t count) {
    if (count >= LANES<T>)
        store(p, v);
    else if (count > 0)
        store_first(p, v, count);
}

// As many values as `count` says, at most a vector, and zeros.
template <typename T>
GCONV_INLINE Vector<T> load_up_to(const T* p, ptrdiff_t count) {
    return count >= LANES<T> ? load(p) : load_first(p, count, T(0));
}

template <typename T>
GCONV_INLINE T sum(Vector<T> v) {
    // In halves: log2(lanes) steps, the same order on every machine of this width.
    T lanes[LANES<T>];
    store(lanes, v);
    for (int half = LANES<T> / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

// The first of two vectors' lanes that `index` names: lane i of a is i, of b LANES + i.
template <typename T>
GCONV_INLINE Vector<T> shuffle(Vector<T> a, Vector<T> b, Integers<T> index) {
#if defined(__clang__)
    Vector<T> out;
    for (int i = 0; i < LANES<T>; ++i) out[i] = index[i] < LANES<T> ? a[index[i]] : b[index[i] - LANES<T>];
    return out;
#else
    return __builtin_shuffle(a, b, index);
#endif
}

// From values in memory order: those at even and at odd places.
template <typename T>
GCONV_INLINE void deinterleave(Vector<T> low, Vector<T> high, Vector<T>& even, Vector<T>& odd) {
    const Integers<T> lane = lane_numbers<T>();
    even = shuffle<T>(low, high, lane * 2);
    odd = shuffle<T>(low, high, lane * 2 + 1);
}

// The reverse of deinterleave.
template <typename T>
GCONV_INLINE void interleave(Vector<T> even, Vector<T> odd, Vector<T>& low, Vector<T>& high) {
    const Integers<T> lane = lane_numbers<T>(), which = (lane & 1) * LANES<T>;
    low = shuffle<T>(even, odd, lane / 2 + which);
    high = shuffle<T>(even, odd, lane / 2 + LANES<T> / 2 + which);
}

// Transposes LANES rows of LANES values in registers: log2(LANES) rounds, each swaps one bit of row and lane.
template <typename T>
GCONV_INLINE void transpose(Vector<T>* rows) {
    const Integers<T> lane = lane_numbers<T>();
#pragma GCC unroll 4
    for (int bit = 1; bit < LANES<T>; bit *= 2) {
        const Integers<T> set = (lane & bit) != 0;
        const Integers<T> first = lane + (set & (LANES<T> - bit)), second = lane + (set & (LANES<T> - bit)) + bit;
#pragma GCC unroll 16
        for (int i = 0; i < LANES<T>; ++i) {
            if (i & bit) continue;
            const Vector<T> a = rows[i], b = rows[i + bit];
            rows[i] = shuffle<T>(a, b, first);
            rows[i + bit] = shuffle<T>(a, b, second);
        }
    }
}

// Copies of a few to a few hundred values: what memcpy's call would cost counts.
template <typename T>
GCONV_INLINE void copy(T* to, const T* from, ptrdiff_t count) {
    if (count >= LANES<T>) {
        ptrdiff_t i = 0;
        for (; i + LANES<T> <= count; i += LANES<T>) store(to + i, load(from + i));
        store(to + count - LANES<T>, load(from + count - LANES<T>));
        return;
    }
    for (ptrdiff_t i = 0; i < count; ++i) to[i] = from[i];
}

template <typename T>
GCONV_INLINE void fill(T* to, T value, ptrdiff_t count) {
    ptrdiff_t i = 0;
    for (; i + LANES<T> <= count; i += LANES<T>) store(to + i, splat(value));
    for (; i < count; ++i) to[i] = value;
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
