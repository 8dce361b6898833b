// A correlation's shape, and a copy of an image in which every tap of every output pixel is one addition away.
#pragma once
#include "kernels.hpp"
#include "simd.hpp"

namespace gconv {

namespace GCONV_LEVEL {

// Whether each output pixel is made of the one pixel at its place.
inline bool is_pointwise(const Correlation& g) {
    return g.field_height == 1 && g.field_width == 1 && g.stride_y == 1 && g.stride_x == 1 && g.pad_y == 0 &&
           g.pad_x == 0 && g.out_height == g.height && g.out_width == g.width;
}

// Pixels of a 1x1 filter without padding have no neighbours to look at: the image may be one long row.
inline Correlation flattened(Correlation g) {
    constexpr ptrdiff_t MOST = 4096, LEAST = 256;  // shorter rows are no better than those that there are
    if (is_pointwise(g)) {
        const ptrdiff_t pixels = g.height * g.width;
        ptrdiff_t width = pixels;
        if (pixels > MOST)
            for (width = MOST; width >= LEAST && pixels % width != 0;) --width;
        if (width < LEAST && pixels > MOST) return g;
        g.width = g.out_width = width;
        g.height = g.out_height = width ? pixels / width : 1;
    }
    return g;
}

// Some rows of all channels with their padding. Columns are sorted by their place modulo the stride, so that the
// values which one tap meets along an output row are neighbours whatever the stride.
struct PaddedLayout {
    ptrdiff_t phases, phase_width, row_pitch, plane_pitch, slack, size, line, unsorted;

    PaddedLayout(const Correlation& g, ptrdiff_t out_rows, ptrdiff_t element, ptrdiff_t lanes) {
        phases = smaller(g.stride_x, g.field_width);
        phase_width = g.out_width + (g.field_width - 1) / g.stride_x;
        row_pitch = phases * phase_width;
        plane_pitch = ((out_rows - 1) * g.stride_y + g.field_height) * row_pitch;
        // Planes a multiple of 4 KB apart would meet in one set of the cache.
        if (plane_pitch * element % 4096 == 0) plane_pitch += lanes;
        slack = lanes;  // a vector may reach past the last pixel
        size = g.channels * plane_pitch + slack;
        line = g.stride_x * phase_width + 2 * lanes;
        unsorted = g.stride_x == 1 ? 0 : ((out_rows - 1) * g.stride_y + g.field_height) * line;
    }

    ptrdiff_t tap(ptrdiff_t c, ptrdiff_t i, ptrdiff_t j, ptrdiff_t stride_x) const {
        return c * plane_pitch + i * row_pitch + j % stride_x * phase_width + j / stride_x;
    }
};

// The places i with 0 <= i * stride + offset < size are [first, last), within [0, count).
struct PlacesInside {
    ptrdiff_t first, last;
    PlacesInside(ptrdiff_t offset, ptrdiff_t stride, ptrdiff_t size, ptrdiff_t count) {
        first = offset >= 0 ? 0 : smaller(divide_up(-offset, stride), count);
        last = size <= offset ? 0 : smaller((size - 1 - offset) / stride + 1, count);
        if (last < first) last = first;
    }
};

// Rows of an image with zeros where they pass its edges.
template <typename T>
struct PaddedRow {
    ptrdiff_t begin, count;
    PlacesInside inside;

    PaddedRow(ptrdiff_t begin_, ptrdiff_t count_, ptrdiff_t width)
        : begin(begin_), count(count_), inside(begin_, 1, width, count_) {}

    GCONV_INLINE void write(const T* row, T* to) const {
        for (ptrdiff_t i = 0; i < inside.first; ++i) to[i] = 0;
        // Not reached with nothing inside: the address could then lie outside the image.
        if (inside.last > inside.first)
            copy(to + inside.first, row + (inside.first + begin), inside.last - inside.first);
        for (ptrdiff_t i = inside.last; i < count; ++i) to[i] = 0;
    }
};

// Sorts a padded row by the column's place modulo the stride. Writes up to a vector past the end of each phase: what
// stands there is written later, or nothing.
template <typename T>
GCONV_INLINE void sort_columns(const PaddedLayout& layout, ptrdiff_t stride, const T* line, T* to) {
    for (ptrdiff_t phase = 0; phase < layout.phases; ++phase, to += layout.phase_width) {
        if (stride == 2) {
            for (ptrdiff_t i = 0; i < layout.phase_width; i += LANES<T>) {
                Vector<T> even, odd;
                deinterleave<T>(load(line + 2 * i), load(line + 2 * i + LANES<T>), even, odd);
                store(to + i, phase ? odd : even);
            }
        } else {
            for (ptrdiff_t i = 0; i < layout.phase_width; ++i) to[i] = line[i * stride + phase];
        }
    }
}

// Copies what `out_rows` output rows from `y` on read. `unsorted` is room for layout.unsorted values.
template <typename T>
void pad_image(const Correlation& g, const PaddedLayout& layout, const T* image, ptrdiff_t y, ptrdiff_t out_rows,
               T* unsorted, T* out) {
    const bool sorted = g.stride_x == 1;
    const ptrdiff_t top = y * g.stride_y - g.pad_y, rows = (out_rows - 1) * g.stride_y + g.field_height;
    const PaddedRow<T> padded(-g.pad_x, sorted ? layout.row_pitch : g.stride_x * layout.phase_width, g.width);
    for (ptrdiff_t c = 0; c < g.channels; ++c) {
        T* to = sorted ? out + c * layout.plane_pitch : unsorted;
        const ptrdiff_t pitch = sorted ? layout.row_pitch : layout.line;
        for (ptrdiff_t r = 0; r < rows; ++r, to += pitch) {
            const ptrdiff_t row = top + r;
            if (row < 0 || row >= g.height)
                fill(to, T(0), padded.count);
            else
                padded.write(image + (c * g.height + row) * g.width, to);
        }
        // All rows first: a vector loaded right after the stores that it spans would wait for them.
        for (ptrdiff_t r = 0; r < rows && !sorted; ++r)
            sort_columns(layout, g.stride_x, unsorted + r * layout.line,
                         out + c * layout.plane_pitch + r * layout.row_pitch);
    }
    fill(out + layout.size - layout.slack, T(0), layout.slack);
}

// Where each tap (c, i, j) lies from the place of an output pixel, if the first one's first tap lies at (top, left).
inline void tap_offsets(const Correlation& g, const PaddedLayout& layout, ptrdiff_t top, ptrdiff_t left,
                        ptrdiff_t* offsets) {
    for (ptrdiff_t c = 0; c < g.channels; ++c)
        for (ptrdiff_t i = 0; i < g.field_height; ++i)
            for (ptrdiff_t j = 0; j < g.field_width; ++j) *offsets++ = layout.tap(c, top + i, left + j, g.stride_x);
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
