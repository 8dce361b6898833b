// Correlation of one image with packed filters: a convolution's forward pass, and its input's gradient at stride 1.
#pragma once
#include "padded_image.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "winograd.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// Output rows that are worked on at once, a multiple of 2, where one row needs `row` values. By the shapes alone, never
// the threads: a band is what falls back from Winograd as one.
inline ptrdiff_t rows_of_a_band(const Correlation& g, ptrdiff_t images, ptrdiff_t row, ptrdiff_t element) {
    constexpr ptrdiff_t BAND_BYTES = 512 * 1024;  // half of a second-level cache
    constexpr ptrdiff_t MIN_TASKS = 16;           // some work for each thread, also with few images
    const ptrdiff_t fitting = (BAND_BYTES / element / larger(row, 1) - g.field_height) / g.stride_y + 1;
    const ptrdiff_t shared_out = larger(divide_up(g.out_height * images, MIN_TASKS), 8);
    return larger(2, smaller(round_up(g.out_height, 2), smaller(fitting, shared_out) / 2 * 2));
}

template <typename T>
class Correlator {
  public:
    // Computes sizes only; memory comes with take_shared and take_own, filters with prepare.
    Correlator(const Correlation& geometry, ptrdiff_t images, ptrdiff_t filters)
        : g_(geometry),
          products_(g_, filters),
          band_rows_(rows_of_a_band(g_, images, PaddedLayout(g_, 1, sizeof(T), 0).row_pitch * g_.channels, sizeof(T))),
          layout_(g_, band_rows_, sizeof(T), LANES<T>),
          winograd_(g_, filters, band_rows_),
          by_winograd_(winograd_.worthwhile()) {
        // A copy of the image pays where it is read again for other filters, not for a few 1x1 ones.
        in_place_ = is_pointwise(g_) && filters <= FEW_FILTERS && products_.reads_rows() && !by_winograd_;
        if (in_place_) layout_.row_pitch = g_.width, layout_.plane_pitch = g_.height * g_.width, layout_.size = 0;
    }

    ptrdiff_t band_rows() const { return band_rows_; }
    ptrdiff_t bands() const { return divide_up(g_.out_height, band_rows_); }

    void take_shared(Arena& arena) {
        products_.take_shared(arena);
        if (by_winograd_) winograd_.take_shared(arena);
    }

    struct Own {
        T *image, *unsorted, *transformed;
        typename Products<T>::Own products;
    };

    Own take_own(Arena& arena) const {
        return {arena.take<T>(layout_.size), arena.take<T>(layout_.unsorted),
                by_winograd_ ? winograd_.take_own(arena) : nullptr, products_.take_own(arena)};
    }

    // As Products::prepare.
    template <typename Weight>
    void prepare(Weight weight, const T* bias) {
        products_.prepare(layout_, weight, bias);
        if (by_winograd_) by_winograd_ = winograd_.prepare(weight, products_.bias());
    }

    // Writes the output rows [y, y + rows), rows <= band_rows() and y even, filter by filter `plane` values apart, to
    // `out`, which is the place of row y.
    void run(const T* image, ptrdiff_t y, ptrdiff_t rows, bool relu, T* out, ptrdiff_t plane, const Own& own) const {
        if (in_place_) return products_.run(image + y * g_.width, rows, relu, out, plane, own.products);
        if (by_winograd_ && winograd_.run(image, y, rows, relu, out, plane, own.transformed)) return;
        pad_image(g_, layout_, image, y, rows, own.unsorted, own.image);
        products_.run(own.image, rows, relu, out, plane, own.products);
    }

    // The same for all rows of a band, `out` being the place of the image's row 0.
    void run_band(const T* image, ptrdiff_t band, bool relu, T* out, ptrdiff_t plane, const Own& own) const {
        const ptrdiff_t y = band * band_rows_;
        run(image, y, smaller(band_rows_, g_.out_height - y), relu, out + y * g_.out_width, plane, own);
    }

  private:
    static constexpr ptrdiff_t FEW_FILTERS = 4;

    Correlation g_;
    Products<T> products_;
    ptrdiff_t band_rows_;
    PaddedLayout layout_;
    Winograd<T> winograd_;
    bool by_winograd_, in_place_;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
