// The gradient of a convolution's input where the stride is not 1.
//
// Input pixels that are a multiple of the stride apart meet the same taps: each such set, a phase, is a correlation of
// the output's gradient, at stride 1, with every stride-th tap, the last one first. All phases read one padded copy.
#pragma once
#include <new>

#include "correlate.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// One axis of a phase: the pixels begin, begin + stride, ..., `count` of them. Pixel number q + first meets tap
// last_tap - i * stride at output q + i - pad.
struct PhaseAxis {
    ptrdiff_t begin, count, taps, pad, last_tap;

    PhaseAxis(ptrdiff_t size, ptrdiff_t pad_, ptrdiff_t stride, ptrdiff_t field, ptrdiff_t begin_) : begin(begin_) {
        const ptrdiff_t phase = (begin + pad_) % stride, first = (begin + pad_) / stride;
        count = size > begin ? (size - begin - 1) / stride + 1 : 0;
        taps = field > phase ? (field - phase - 1) / stride + 1 : 0;
        pad = taps - 1 - first;
        last_tap = phase + (taps - 1) * stride;
    }
};

template <typename T>
class StridedGradient {
  public:
    // `forward` is the convolution's correlation.
    StridedGradient(const Correlation& forward, ptrdiff_t images, ptrdiff_t filters)
        : forward_(forward),
          common_(common(forward, filters)),
          band_rows_(rows_of_a_band(common_, images,
                                    larger(PaddedLayout(common_, 1, sizeof(T), 0).row_pitch * filters,
                                           forward.stride_y * forward.width * forward.channels),
                                    sizeof(T))),
          layout_(common_, band_rows_, sizeof(T), LANES<T>) {}

    ~StridedGradient() { delete[] phases_; }
    StridedGradient(const StridedGradient&) = delete;
    StridedGradient& operator=(const StridedGradient&) = delete;

    // Returns false where there is no memory.
    bool make_phases() {
        const ptrdiff_t count = forward_.stride_y * forward_.stride_x;
        phases_ = new (std::nothrow) Phase[count];
        for (ptrdiff_t i = 0; i < count && phases_; ++i) {
            const PhaseAxis y = axis_y(i / forward_.stride_x), x = axis_x(i % forward_.stride_x);
            Correlation g = common_;
            g.field_height = larger(y.taps, 0);
            g.field_width = larger(x.taps, 0);
            g.out_height = y.count;
            g.out_width = common_.out_width;  // some do a pixel more, so that rows of all are as long
            phases_[i] = {y, x, Products<T>(g, forward_.channels), g.depth() == 0};
        }
        return phases_;
    }

    ptrdiff_t bands() const { return divide_up(common_.out_height, band_rows_); }

    void take_shared(Arena& arena) {
        for (ptrdiff_t i = 0; i < forward_.stride_y * forward_.stride_x; ++i) phases_[i].products.take_shared(arena);
    }

    struct Own {
        T *image, *unsorted, *parts;
        Arena rest;
    };

    Own take_own(Arena& arena) const {
        T *image = arena.take<T>(layout_.size), *unsorted = arena.take<T>(layout_.unsorted);
        T* parts = arena.take<T>(forward_.stride_x * forward_.channels * plane());
        // One phase after the other uses the same rest; the sizes differ little, the largest is taken.
        const Arena rest = arena;
        size_t most = arena.used();
        for (ptrdiff_t i = 0; i < forward_.stride_y * forward_.stride_x; ++i) {
            Arena one = rest;
            phases_[i].products.take_own(one);
            if (one.used() > most) most = one.used();
        }
        arena.skip_to(most);
        return {image, unsorted, parts, rest};
    }

    // w (F, C, HH, WW)
    void prepare(const T* w) {
        const Correlation& g = forward_;
        for (ptrdiff_t i = 0; i < g.stride_y * g.stride_x; ++i) {
            Phase& phase = phases_[i];
            if (phase.without_taps) continue;
            const ptrdiff_t taps_y = phase.y.taps, taps_x = phase.x.taps;
            phase.products.prepare(
                layout_,
                [&](ptrdiff_t c, ptrdiff_t k) {
                    const ptrdiff_t row = phase.y.last_tap - k / taps_x % taps_y * g.stride_y;
                    const ptrdiff_t column = phase.x.last_tap - k % taps_x * g.stride_x, f = k / (taps_y * taps_x);
                    return w[((f * g.channels + c) * g.field_height + row) * g.field_width + column];
                },
                nullptr, common_.pad_y - phase.y.pad, common_.pad_x - phase.x.pad);
        }
    }

    // dx (C, H, W): the band's pixels of all phases, of dout (F, H', W').
    void run(const T* dout, ptrdiff_t band, T* dx, const Own& own) const {
        const ptrdiff_t y = band * band_rows_;
        pad_image(common_, layout_, dout, y, smaller(band_rows_, common_.out_height - y), own.unsorted, own.image);
        for (ptrdiff_t row = 0; row < forward_.stride_y; ++row) {
            const Phase* across = phases_ + row * forward_.stride_x;
            const ptrdiff_t rows = smaller(band_rows_, across->y.count - y);
            if (rows <= 0) continue;
            for (ptrdiff_t column = 0; column < forward_.stride_x; ++column) {
                T* part = own.parts + column * forward_.channels * plane();
                if (across[column].x.count == 0) continue;
                if (across[column].without_taps) {
                    fill(part, T(0), forward_.channels * plane());
                    continue;
                }
                Arena rest = own.rest;
                across[column].products.run(own.image, rows, false, part, plane(),
                                            across[column].products.take_own(rest));
            }
            for (ptrdiff_t c = 0; c < forward_.channels; ++c)
                for (ptrdiff_t i = 0; i < rows; ++i)
                    merge(across, own.parts + c * plane(), i,
                          dx + (c * forward_.height + across->y.begin + (y + i) * forward_.stride_y) * forward_.width);
        }
    }

  private:
    struct Phase {
        PhaseAxis y{0, 0, 1, 0, 0}, x{0, 0, 1, 0, 0};
        Products<T> products{Correlation{}, 0};
        bool without_taps = true;
    };

    PhaseAxis axis_y(ptrdiff_t begin) const {
        return {forward_.height, forward_.pad_y, forward_.stride_y, forward_.field_height, begin};
    }
    PhaseAxis axis_x(ptrdiff_t begin) const {
        return {forward_.width, forward_.pad_x, forward_.stride_x, forward_.field_width, begin};
    }

    // Values between the planes of a part.
    ptrdiff_t plane() const { return band_rows_ * common_.out_width; }

    // What all phases read: the largest pads, and as many pixels and taps as reach as far as any of them.
    static Correlation common(const Correlation& forward, ptrdiff_t filters) {
        Correlation g{filters, forward.out_height, forward.out_width, 1, 1, 1, 1, 0, 0, 0, 0};
        reach(forward.height, forward.pad_y, forward.stride_y, forward.field_height, g.pad_y, g.field_height,
              g.out_height);
        reach(forward.width, forward.pad_x, forward.stride_x, forward.field_width, g.pad_x, g.field_width, g.out_width);
        return g;
    }

    static void reach(ptrdiff_t size, ptrdiff_t pad, ptrdiff_t stride, ptrdiff_t field, ptrdiff_t& most_pad,
                      ptrdiff_t& most_taps, ptrdiff_t& most) {
        // The pad is the number of taps less what lies before the image, which differ by 1 at most among phases; both
        // are monotone in the phase but for one step: the extremes are at the ends and around the step.
        ptrdiff_t least_pad = 0, taps = 1;
        bool any = false;
        for (ptrdiff_t begin = 0; begin < smaller(stride, size); ++begin) {
            const PhaseAxis axis(size, pad, stride, field, begin);
            if (axis.taps <= 0) continue;
            most_pad = any ? larger(most_pad, axis.pad) : axis.pad;
            least_pad = any ? smaller(least_pad, axis.pad) : axis.pad;
            taps = larger(taps, axis.taps);
            any = true;
        }
        most_taps = taps + most_pad - least_pad;
        most = divide_up(size, stride);
    }

    // One row of dx from the rows of its phases.
    void merge(const Phase* across, const T* parts, ptrdiff_t row, T* dx) const {
        const ptrdiff_t stride = forward_.stride_x, width = forward_.width;
        if (stride == 2) {
            const T *even = parts + row * common_.out_width, *odd = parts + forward_.channels * plane();
            odd += row * common_.out_width;
            for (ptrdiff_t x = 0; x < width; x += 2 * LANES<T>) {
                const ptrdiff_t left = width - x;
                // Loads stay inside the parts, which are followed by others or by a panel.
                Vector<T> low, high;
                interleave<T>(load(even + x / 2), load(odd + x / 2), low, high);
                store_up_to(dx + x, low, left);
                store_up_to(dx + x + LANES<T>, high, left - LANES<T>);
            }
            return;
        }
        for (ptrdiff_t column = 0; column < smaller(stride, width); ++column) {
            const T* from = parts + column * forward_.channels * plane() + row * common_.out_width;
            for (ptrdiff_t i = 0; i < across[column].x.count; ++i) dx[column + i * stride] = from[i];
        }
    }

    Correlation forward_, common_;
    ptrdiff_t band_rows_;
    PaddedLayout layout_;
    Phase* phases_ = nullptr;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
