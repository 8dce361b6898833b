// The gradients of a convolution's filters and biases: products of the output's gradient with shifted images.
#pragma once
#include "filter_sums.hpp"
#include "padded_image.hpp"

namespace gconv {
namespace GCONV_LEVEL {

template <typename T>
class FilterGradient {
  public:
    FilterGradient(const Correlation& geometry, ptrdiff_t images, ptrdiff_t filters)
        : g_(geometry),
          filters_(filters),
          sums_(geometry.depth(), images, filters, geometry.pixels()),
          band_rows_(rows_of_a_band()),
          layout_(g_, band_rows_, sizeof(T), LANES<T>) {}

    ptrdiff_t tasks() const { return sums_.tasks(); }

    void take_shared(Arena& arena) {
        sums_.take(arena);
        offsets_ = arena.take<ptrdiff_t>(g_.depth());
        if (offsets_) tap_offsets(g_, layout_, 0, 0, offsets_);
    }

    struct Own {
        T *image, *unsorted, *gradients;
    };

    Own take_own(Arena& arena) const {
        return {arena.take<T>(layout_.size), arena.take<T>(layout_.unsorted),
                arena.take<T>(sums_.parts.padded() * (band_rows_ * g_.out_width + LANES<T>))};
    }

    // x (N, C, H, W), dout (N, F, H', W')
    void run(ptrdiff_t task, const T* x, const T* dout, const Own& own) const {
        auto at = sums_.begin(task);
        for (ptrdiff_t image = at.first_image; image < at.last_image; ++image)
            for (ptrdiff_t y = 0; y < g_.out_height; y += band_rows_) {
                const ptrdiff_t rows = smaller(band_rows_, g_.out_height - y), pixels = rows * g_.out_width;
                pad_image(g_, layout_, x + image * g_.channels * g_.height * g_.width, y, rows, own.unsorted,
                          own.image);
                for (ptrdiff_t number = 0; number < sums_.parts.count; ++number) {
                    const ColumnParts::Part part = sums_.parts[number];
                    const T* from = dout + (image * filters_ + part.begin) * g_.pixels() + y * g_.out_width;
                    pack_transposed(from, g_.pixels(), filters_ - part.begin, pixels, part.width, own.gradients);
                    add_products(part, own, rows, at.first, at.last, sums_.of(at.sums, part));
                    if (at.has_bias()) sums_.add_bias(at.sums, part, own.gradients, rows, g_.out_width);
                }
                sums_.added(at, pixels);
            }
    }

    void finish(int threads, T* dw, T* db) const { sums_.finish(threads, dw, db); }

  private:
    static constexpr ptrdiff_t BAND_BYTES = 256 * 1024;
    static constexpr ptrdiff_t STRIP_BYTES = 24 * 1024;  // of gradients that stay in the first-level cache

    ptrdiff_t rows_of_a_band() const {
        const ptrdiff_t image_row = PaddedLayout(g_, 1, sizeof(T), 0).row_pitch * g_.channels;
        const ptrdiff_t row = larger(larger(sums_.parts.padded() * g_.out_width, image_row), 1);
        return larger(1, smaller(g_.out_height, BAND_BYTES / ptrdiff_t(sizeof(T)) / row));
    }

    void add_products(const ColumnParts::Part& part, const Own& own, ptrdiff_t rows, ptrdiff_t first, ptrdiff_t last,
                      T* sums) const {
        const ptrdiff_t vectors = part.width / LANES<T>, step = g_.stride_y * layout_.row_pitch;
        const ptrdiff_t blocks = divide_up(last - first, outer_rows(vectors));
        const ptrdiff_t strip = larger(1, STRIP_BYTES / ptrdiff_t(sizeof(T)) / part.width / g_.out_width);
        const T* gradients = own.gradients;
        for (ptrdiff_t y = 0; y < rows; y += strip, gradients += strip * g_.out_width * part.width)
            for (ptrdiff_t block = 0; block < blocks; ++block) {
                const ptrdiff_t k = first + block * (last - first) / blocks;
                const ptrdiff_t taps = first + (block + 1) * (last - first) / blocks - k;
                const T* columns[OUTER_ROWS];
                for (ptrdiff_t m = 0; m < taps; ++m) columns[m] = own.image + offsets_[k + m] + y * step;
                outer_tile<T>(taps, vectors)(smaller(strip, rows - y), g_.out_width, step, columns, gradients, false,
                                             sums + k * part.width);
            }
    }

    Correlation g_;
    ptrdiff_t filters_;
    FilterSums<T> sums_;
    ptrdiff_t band_rows_;
    PaddedLayout layout_;
    ptrdiff_t* offsets_ = nullptr;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
