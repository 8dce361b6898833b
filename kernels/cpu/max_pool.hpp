// Max pooling of one channel plane, with the place of each maximum inside its window, and its gradient.
#pragma once
#include "kernels.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace gconv {

namespace GCONV_LEVEL {

// The first maximum in row-major order wins, so only a strictly larger value replaces it, or the first NaN. `value !=
// value` is the NaN test that survives everything but -ffast-math, which the build must not use. Selection without
// branches: which value is larger is a coin toss that no processor predicts.
template <typename Value, typename Place>
GCONV_INLINE void take_larger(Value value, Place place, Value& best, Place& best_place) {
    const auto better = (value > best) | ((value != value) & (best == best));
    best = better ? value : best;
    best_place = better ? place : best_place;
}

// The windows of LANES pixels, `step` 1 or 2 apart. Reads whole vectors: readable() says whether it may.
template <typename T, int STEP>
struct WindowVectors {
    static bool readable(const T* corner, const Pool& g, const T* end) {
        const ptrdiff_t last = STEP == 1 ? g.pool_width - 1 : (g.pool_width - 1) / 2 * 2;
        return end - corner >= (g.pool_height - 1) * g.width + last + STEP * LANES<T>;
    }

    static GCONV_INLINE void scan(const T* corner, const Pool& g, Vector<T>& best, Integers<T>& places) {
        best = values(corner, 0);
        places = Integers<T>{};
        for (ptrdiff_t i = 0, place = 0; i < g.pool_height; ++i)
            for (ptrdiff_t j = 0; j < g.pool_width; ++j, ++place) {
                const Integers<T> mark = typename Simd<T>::Integer(place) + Integers<T>{};
                take_larger(values(corner + i * g.width, j), mark, best, places);
            }
    }

  private:
    static GCONV_INLINE Vector<T> values(const T* row, ptrdiff_t j) {
        if (STEP == 1) return load(row + j);
        Vector<T> even, odd;
        deinterleave<T>(load(row + j / 2 * 2), load(row + j / 2 * 2 + LANES<T>), even, odd);
        return j % 2 ? odd : even;
    }
};

template <typename T>
GCONV_INLINE void store_places(uint8_t* to, Integers<T> places, ptrdiff_t count) {
    const auto bytes = __builtin_convertvector(places, typename Simd<T>::Bytes);
    if (count >= LANES<T>) {
        *reinterpret_cast<typename Simd<T>::UnalignedBytes*>(to) = bytes;
        return;
    }
    for (ptrdiff_t i = 0; i < count; ++i) to[i] = bytes[i];
}

template <typename T>
GCONV_INLINE void store_places(int32_t* to, Integers<T> places, ptrdiff_t count) {
    for (ptrdiff_t i = 0; i < smaller(count, LANES<T>); ++i) to[i] = static_cast<int32_t>(places[i]);
}

template <typename T>
GCONV_INLINE Integers<T> load_places(const uint8_t* from, ptrdiff_t count) {
    typename Simd<T>::Bytes bytes{};
    if (count >= LANES<T>) bytes = *reinterpret_cast<const typename Simd<T>::UnalignedBytes*>(from);
#if GCONV_VECTOR_BYTES == 64
    else {
        const __m128i first = _mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << larger(count, 0)) - 1), from);
        __builtin_memcpy(&bytes, &first, sizeof(bytes));
    }
#else
    else
        for (ptrdiff_t i = 0; i < count; ++i) bytes[i] = from[i];
#endif
    return __builtin_convertvector(bytes, Integers<T>);
}

template <typename T>
GCONV_INLINE Integers<T> load_places(const int32_t* from, ptrdiff_t count) {
    Integers<T> places{};
    for (ptrdiff_t i = 0; i < smaller(count, LANES<T>); ++i) places[i] = from[i];
    return places;
}

// One row of outputs; `top` is the first window's corner, `end` what must not be read.
template <typename T, typename Index, int STEP>
ptrdiff_t pool_vectors(const T* top, const T* end, const Pool& g, T* out, Index* places) {
    ptrdiff_t x = 0;
    for (; x < g.out_width && WindowVectors<T, STEP>::readable(top + x * STEP, g, end); x += LANES<T>) {
        Vector<T> best;
        Integers<T> marks;
        WindowVectors<T, STEP>::scan(top + x * STEP, g, best, marks);
        store_up_to(out + x, best, g.out_width - x);
        store_places<T>(places + x, marks, g.out_width - x);
    }
    return x;
}

// `rows` rows of outputs from the one whose first window begins at `top`.
template <typename T, typename Index>
void max_pool_rows(const T* top, const T* end, const Pool& g, ptrdiff_t rows, T* out, Index* places) {
    for (ptrdiff_t y = 0; y < rows; ++y, top += g.stride_y * g.width, out += g.out_width, places += g.out_width) {
        ptrdiff_t x = 0;
        if (g.stride_x == 1) x = pool_vectors<T, Index, 1>(top, end, g, out, places);
        if (g.stride_x == 2) x = pool_vectors<T, Index, 2>(top, end, g, out, places);
        for (; x < g.out_width; ++x) {
            const T* corner = top + x * g.stride_x;
            T best = *corner;
            Index best_place = 0, place = 0;
            for (ptrdiff_t i = 0; i < g.pool_height; ++i)
                for (ptrdiff_t j = 0; j < g.pool_width; ++j, ++place)
                    take_larger(corner[i * g.width + j], place, best, best_place);
            out[x] = best;
            places[x] = best_place;
        }
    }
}

// Where a pooled value's gradient goes: nowhere if a ReLU before the pooling stopped it.
template <typename T>
struct PooledGradient {
    const T *dout, *out;  // out: null without a ReLU

    GCONV_INLINE T operator[](ptrdiff_t i) const { return !out || out[i] > 0 ? dout[i] : T(0); }

    GCONV_INLINE Vector<T> vector(ptrdiff_t i, ptrdiff_t count) const {
        const Vector<T> gradient = load_up_to(dout + i, count);
        return !out ? gradient : load_up_to(out + i, count) > 0 ? gradient : Vector<T>{};
    }

    PooledGradient from(ptrdiff_t i) const { return {dout + i, out ? out + i : nullptr}; }
};

template <typename T>
GCONV_INLINE Vector<T> only_at(Integers<T> places, ptrdiff_t place, Vector<T> value) {
    return places == typename Simd<T>::Integer(place) ? value : Vector<T>{};
}

// Windows of two or three columns, two apart: whole vectors, row by row of each window. Rows that no window before has
// reached are written, others added to.
template <typename T>
void unpool_by_twos(PooledGradient<T> gradient, const uint8_t* places, const Pool& g, T* plane) {
    const bool three = g.pool_width == 3;
    const ptrdiff_t columns = g.out_width + three, covered = 2 * g.out_width + three;
    const Integers<T> one_back = lane_numbers<T>() + (LANES<T> - 1);
    ptrdiff_t written = 0;
    for (ptrdiff_t y = 0; y < g.out_height; ++y, gradient = gradient.from(g.out_width), places += g.out_width)
        for (ptrdiff_t i = 0; i < g.pool_height; ++i) {
            const ptrdiff_t row = y * g.stride_y + i, first = i * g.pool_width;
            T* to = plane + row * g.width;
            if (row > written) fill(plane + written * g.width, T(0), (row - written) * g.width);
            const bool add = row < written;
            written = larger(written, row + 1);
            Vector<T> before{};  // gradients for the third column of a window are the next window's first
            for (ptrdiff_t x = 0; x < columns; x += LANES<T>) {
                const ptrdiff_t count = g.out_width - x, left = covered - 2 * x;
                const Vector<T> value = gradient.vector(x, count);
                const Integers<T> place = load_places<T>(places + x, count);
                Vector<T> even = only_at<T>(place, first, value);
                if (three) {
                    const Vector<T> third = only_at<T>(place, first + 2, value);
                    even += shuffle<T>(before, third, one_back);
                    before = third;
                }
                Vector<T> low, high;
                interleave<T>(even, only_at<T>(place, first + 1, value), low, high);
                if (add) {
                    low += load_up_to(to + 2 * x, left);
                    high += load_up_to(to + 2 * x + LANES<T>, left - LANES<T>);
                }
                store_up_to(to + 2 * x, low, left);
                store_up_to(to + 2 * x + LANES<T>, high, left - LANES<T>);
            }
            if (!add) fill(to + covered, T(0), g.width - covered);
        }
    fill(plane + written * g.width, T(0), (g.height - written) * g.width);
}

GCONV_INLINE bool by_twos(const Pool& g, const uint8_t*) {
    return g.stride_x == 2 && (g.pool_width == 2 || g.pool_width == 3);
}
GCONV_INLINE bool by_twos(const Pool&, const int32_t*) { return false; }
template <typename T>
void unpool_by_twos(PooledGradient<T>, const int32_t*, const Pool&, T*) {}

// Writes a plane's gradient. `places` come from memory that a caller could have changed, so one outside the window is
// skipped rather than followed.
template <typename T, typename Index>
void unpool_plane(PooledGradient<T> gradient, const Index* places, const Pool& g, T* plane) {
    if (by_twos(g, places)) {
        unpool_by_twos(gradient, places, g, plane);
        return;
    }
    fill(plane, T(0), g.height * g.width);
    ptrdiff_t offsets[256];
    const ptrdiff_t window = g.window(), width = g.pool_width, pitch = g.width, step = g.stride_x, count = g.out_width;
    const bool known = window <= 256;
    for (ptrdiff_t place = 0; known && place < window; ++place) offsets[place] = place / width * pitch + place % width;
    for (ptrdiff_t y = 0; y < g.out_height; ++y, gradient = gradient.from(count), places += count) {
        T* corner = plane + y * g.stride_y * pitch;
        for (ptrdiff_t x = 0; x < count; ++x, corner += step) {
            const ptrdiff_t place = static_cast<ptrdiff_t>(places[x]);
            if (place < 0 || place >= window) continue;
            corner[known ? offsets[place] : place / width * pitch + place % width] += gradient[x];
        }
    }
}

// x (planes, H, W), out and places (planes, H', W')
template <typename T, typename Index>
void max_pool_forward(const Pool& g, ptrdiff_t planes, const T* x, T* out, Index* places, int threads) {
    for_each_task(threads, planes, [&](ptrdiff_t plane, int) {
        const T* from = x + plane * g.height * g.width;
        max_pool_rows(from, from + g.height * g.width, g, g.out_height, out + plane * g.pixels(),
                      places + plane * g.pixels());
    });
}

// dout and places (planes, H', W'), dx (planes, H, W); out as in PooledGradient
template <typename T, typename Index>
void max_pool_backward(const Pool& g, ptrdiff_t planes, const T* dout, const T* out, const Index* places, T* dx,
                       int threads) {
    for_each_task(threads, planes, [&](ptrdiff_t plane, int) {
        unpool_plane(PooledGradient<T>{dout, out}.from(plane * g.pixels()), places + plane * g.pixels(), g,
                     dx + plane * g.height * g.width);
    });
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
