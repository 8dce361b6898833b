// Columns of convolution windows, and their sum back into an image.
//
// The column matrix has C * HH * WW rows, row (c, hh, ww), and N * H' * W' columns, column (n, y, x).
#pragma once
#include "padded_image.hpp"
#include "parallel.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// Calls span(row of the image, its first column's place, column of the matrix, length) for the pieces of output rows
// that a tap (i, j) meets inside the image, and outside(column, length) for the pieces that it meets outside.
template <typename Inside, typename Outside>
GCONV_INLINE void for_each_span(const Correlation& g, ptrdiff_t i, ptrdiff_t j, const Inside& inside,
                                const Outside& outside) {
    const ptrdiff_t offset = j - g.pad_x;
    const PlacesInside across(offset, g.stride_x, g.width, g.out_width);
    for (ptrdiff_t y = 0, column = 0; y < g.out_height; ++y, column += g.out_width) {
        const ptrdiff_t row = y * g.stride_y + i - g.pad_y;
        if (row < 0 || row >= g.height || across.first == across.last) {
            outside(column, g.out_width);
            continue;
        }
        outside(column, across.first);
        inside(row * g.width + across.first * g.stride_x + offset, column + across.first, across.last - across.first);
        outside(column + across.last, g.out_width - across.last);
    }
}

template <typename T>
void im2col(const Correlation& g, ptrdiff_t images, const T* x, T* cols, int threads) {
    const ptrdiff_t taps = g.field_height * g.field_width, ld = images * g.pixels();
    for_each_task(threads, images * g.channels, [&](ptrdiff_t plane, int) {
        const T* from = x + plane * g.height * g.width;
        T* to = cols + plane % g.channels * taps * ld + plane / g.channels * g.pixels();
        for (ptrdiff_t i = 0; i < g.field_height; ++i)
            for (ptrdiff_t j = 0; j < g.field_width; ++j, to += ld)
                for_each_span(
                    g, i, j,
                    [=, stride = g.stride_x](ptrdiff_t place, ptrdiff_t column, ptrdiff_t length) {
                        if (stride == 1)
                            copy(to + column, from + place, length);
                        else
                            for (ptrdiff_t k = 0; k < length; ++k) to[column + k] = from[place + k * stride];
                    },
                    [=](ptrdiff_t column, ptrdiff_t length) { fill(to + column, T(0), length); });
    });
}

// The order of the sums is that of (hh, ww), whatever the number of threads, because one thread owns a plane.
template <typename T>
void col2im(const Correlation& g, ptrdiff_t images, const T* cols, T* x, int threads) {
    const ptrdiff_t taps = g.field_height * g.field_width, ld = images * g.pixels();
    for_each_task(threads, images * g.channels, [&](ptrdiff_t plane, int) {
        T* to = x + plane * g.height * g.width;
        fill(to, T(0), g.height * g.width);
        const T* from = cols + plane % g.channels * taps * ld + plane / g.channels * g.pixels();
        for (ptrdiff_t i = 0; i < g.field_height; ++i)
            for (ptrdiff_t j = 0; j < g.field_width; ++j, from += ld)
                for_each_span(
                    g, i, j,
                    [=, stride = g.stride_x](ptrdiff_t place, ptrdiff_t column, ptrdiff_t length) {
                        for (ptrdiff_t k = 0; k < length; ++k) to[place + k * stride] += from[column + k];
                    },
                    [](ptrdiff_t, ptrdiff_t) {});
    });
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
