// Columns of convolution windows, and their sum back into an image, for one channel plane.
//
// A plane's columns are HH * WW consecutive rows of the column matrix, row (hh, ww), and inside a row
// one value an output pixel, in the order (y, x) for the output rows [y_begin, y_end). `ld` is the
// distance between two rows in elements, so that a caller can place several images side by side.
#pragma once
#include <cstddef>
#include <cstring>

namespace gconv {

struct Window {
    ptrdiff_t height, width;  // of the input plane
    ptrdiff_t field_height, field_width;
    ptrdiff_t stride_y, stride_x;
    ptrdiff_t pad_y, pad_x;
    ptrdiff_t out_width;
};

// The output columns x with 0 <= x * stride + offset < size are [first, last).
struct ValidRange {
    ptrdiff_t first, last;
    ValidRange(ptrdiff_t offset, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t count) {
        first = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
        last = size <= offset ? 0 : (size - 1 - offset) / stride + 1;
        if (last > count) last = count;
        if (first > last) first = last;
    }
};

template <typename T>
void im2col_plane(const T* plane, const Window& g, ptrdiff_t y_begin, ptrdiff_t y_end, T* cols, ptrdiff_t ld) {
    for (ptrdiff_t hh = 0; hh < g.field_height; ++hh) {
        for (ptrdiff_t ww = 0; ww < g.field_width; ++ww, cols += ld) {
            const ptrdiff_t offset = ww - g.pad_x;
            const ValidRange valid(offset, g.stride_x, g.width, g.out_width);
            T* out = cols;
            for (ptrdiff_t y = y_begin; y < y_end; ++y, out += g.out_width) {
                const ptrdiff_t row = y * g.stride_y + hh - g.pad_y;
                if (row < 0 || row >= g.height) {
                    std::memset(out, 0, sizeof(T) * g.out_width);
                    continue;
                }
                const T* in = plane + row * g.width;
                for (ptrdiff_t x = 0; x < valid.first; ++x) out[x] = 0;
                if (g.stride_x == 1) {
                    // Not reached with an empty range: `in + offset` could then point outside the plane.
                    if (valid.last > valid.first)
                        std::memcpy(out + valid.first, in + (valid.first + offset),
                                    sizeof(T) * (valid.last - valid.first));
                } else {
                    for (ptrdiff_t x = valid.first; x < valid.last; ++x) out[x] = in[x * g.stride_x + offset];
                }
                for (ptrdiff_t x = valid.last; x < g.out_width; ++x) out[x] = 0;
            }
        }
    }
}

// Adds to `plane`; the caller zeroes it. The order of the sums is that of (hh, ww), whatever the
// number of threads, because one thread owns a plane.
template <typename T>
void col2im_plane_add(const T* cols, ptrdiff_t ld, const Window& g, ptrdiff_t y_begin, ptrdiff_t y_end, T* plane) {
    for (ptrdiff_t hh = 0; hh < g.field_height; ++hh) {
        for (ptrdiff_t ww = 0; ww < g.field_width; ++ww, cols += ld) {
            const ptrdiff_t offset = ww - g.pad_x;
            const ValidRange valid(offset, g.stride_x, g.width, g.out_width);
            const T* in = cols;
            for (ptrdiff_t y = y_begin; y < y_end; ++y, in += g.out_width) {
                const ptrdiff_t row = y * g.stride_y + hh - g.pad_y;
                if (row < 0 || row >= g.height) continue;
                T* out = plane + row * g.width;
                if (g.stride_x == 1) {
                    for (ptrdiff_t x = valid.first; x < valid.last; ++x) out[x + offset] += in[x];
                } else {
                    for (ptrdiff_t x = valid.first; x < valid.last; ++x) out[x * g.stride_x + offset] += in[x];
                }
            }
        }
    }
}

}  // namespace gconv
