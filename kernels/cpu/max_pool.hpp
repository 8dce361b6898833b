// Max pooling of one channel plane, with the place of each maximum inside its window.
#pragma once
#include <cstddef>

namespace gconv {

struct Pool {
    ptrdiff_t height, width;  // of the input plane
    ptrdiff_t pool_height, pool_width;
    ptrdiff_t stride_y, stride_x;
    ptrdiff_t out_height, out_width;
};

// Whether `value` takes the place of `best`: larger, or the first NaN. `value != value` is the NaN test
// that needs no header and survives everything but -ffast-math, which the build must not use.
template <typename T>
inline bool replaces(T value, T best) {
    return (value > best) | ((value != value) & (best == best));
}

// The first maximum in row-major order wins, so only a strictly larger value replaces it. One place of
// the window at a time along a whole output row, and selection without branches: which value is larger is
// a coin toss that no processor predicts.
template <typename T, typename Index>
void max_pool_plane(const T* __restrict plane, const Pool& g, T* __restrict out, Index* __restrict argmax) {
    // Copies of what the inner loop reads: a store through a byte pointer could change `g`, and each
    // iteration would fetch it again.
    const ptrdiff_t width = g.width, pool_width = g.pool_width, window = g.pool_height * g.pool_width;
    const ptrdiff_t stride = g.stride_x, out_width = g.out_width;
    for (ptrdiff_t y = 0; y < g.out_height; ++y, out += out_width, argmax += out_width) {
        const T* top = plane + y * g.stride_y * width;
        for (ptrdiff_t x = 0; x < out_width; ++x) {
            out[x] = top[x * stride];
            argmax[x] = 0;
        }
        for (ptrdiff_t place = 1; place < window; ++place) {
            const T* in = top + place / pool_width * width + place % pool_width;
            const Index mark = static_cast<Index>(place);
            for (ptrdiff_t x = 0; x < out_width; ++x) {
                const T value = in[x * stride], best = out[x];
                const bool better = replaces(value, best);
                out[x] = better ? value : best;
                argmax[x] = better ? mark : argmax[x];
            }
        }
    }
}

// Adds to `plane`; the caller zeroes it. `argmax` comes from memory that a caller could have changed,
// so a place outside the window is skipped rather than followed.
template <typename T, typename Index>
void max_pool_plane_backward(const T* dout, const Index* argmax, const Pool& g, T* plane) {
    const ptrdiff_t window = g.pool_height * g.pool_width;
    for (ptrdiff_t y = 0; y < g.out_height; ++y) {
        for (ptrdiff_t x = 0; x < g.out_width; ++x, ++dout, ++argmax) {
            const ptrdiff_t place = static_cast<ptrdiff_t>(*argmax);
            if (place < 0 || place >= window) continue;
            const ptrdiff_t i = place / g.pool_width, j = place % g.pool_width;
            plane[(y * g.stride_y + i) * g.width + x * g.stride_x + j] += *dout;
        }
    }
}

}  // namespace gconv
