// Products of packed filters with the windows of a padded image: convolution as a matrix product whose columns are
// never written out.
#pragma once
#include "padded_image.hpp"
#include "parallel.hpp"
#include "register_tile.hpp"

namespace gconv {
namespace GCONV_LEVEL {

template <typename T>
class Products {
  public:
    Products(const Correlation& g, ptrdiff_t filters) : g_(g), blocks_(filters) {
        // Straight from the padded image, a vector being neighbours in one output row; or from a panel into which the
        // pixels of several rows are copied, where rows are short or leave much of their last vector empty.
        const ptrdiff_t in_vectors = round_up(g_.out_width, LANES<T>);
        packed_ = g_.out_width < LANES<T> || 8 * g_.out_width < 7 * in_vectors;
    }

    void take_shared(Arena& arena) {
        panels_ = arena.take<T>(blocks_.rows * g_.depth());
        bias_ = arena.take<T>(blocks_.rows);
        offsets_ = arena.take<ptrdiff_t>(g_.depth());
    }

    struct Own {
        T *panel, *tile;
    };

    Own take_own(Arena& arena) const {
        const ptrdiff_t columns = blocks_.vectors() * LANES<T>;
        return {arena.take<T>(packed_ ? PANEL_DEPTH * columns + LANES<T> : 0),
                arena.take<T>(packed_ ? blocks_.rows * columns : 0)};
    }

    // weight(f, k) is the filters' matrix, k in the order (channel, row, column); bias may be null. The first tap of
    // the first pixel lies at (top, left) of the padded image.
    template <typename Weight>
    void prepare(const PaddedLayout& layout, Weight weight, const T* bias, ptrdiff_t top = 0, ptrdiff_t left = 0) {
        step_ = g_.stride_y * layout.row_pitch;
        pack_rows(blocks_, g_.depth(), weight, panels_);
        for (ptrdiff_t f = 0; f < blocks_.rows; ++f) bias_[f] = bias ? bias[f] : T(0);
        tap_offsets(g_, layout, top, left, offsets_);
    }

    const T* bias() const { return bias_; }

    // Whether a row of the image is read as it stands, and nothing past its end.
    bool reads_rows() const { return !packed_; }

    // Writes `rows` output rows, filter by filter `plane` values apart.
    void run(const T* image, ptrdiff_t rows, bool relu, T* out, ptrdiff_t plane, const Own& own) const {
        if (packed_)
            run_packed(image, rows, relu, out, plane, own);
        else
            run_direct(image, rows, relu, out, plane);
    }

  private:
    static constexpr ptrdiff_t PANEL_DEPTH = 160;  // a panel stays in the first-level cache

    void run_direct(const T* image, ptrdiff_t rows, bool relu, T* out, ptrdiff_t plane) const {
        const ptrdiff_t per_row = divide_up(g_.out_width, LANES<T>), slots = per_row * rows;
        ptrdiff_t y = 0, in_row = 0;
        for (ptrdiff_t slot = 0; slot < slots; slot += blocks_.vectors()) {
            const ptrdiff_t vectors = smaller(blocks_.vectors(), slots - slot);
            const T* columns[NARROW_VECTORS];
            ptrdiff_t places[NARROW_VECTORS];
            for (ptrdiff_t v = 0; v < vectors; ++v) {
                // The last vector of a row does some pixels again rather than none.
                const ptrdiff_t x = smaller(in_row * LANES<T>, g_.out_width - LANES<T>);
                columns[v] = image + y * step_ + x;
                places[v] = y * g_.out_width + x;
                if (++in_row == per_row) {
                    in_row = 0;
                    ++y;
                }
            }
            for (ptrdiff_t v = vectors; v < blocks_.vectors(); ++v) {
                columns[v] = columns[vectors - 1];
                places[v] = places[vectors - 1];
            }
            for (ptrdiff_t block = 0; block < blocks_.count; ++block) {
                const ptrdiff_t begin = blocks_.begin(block);
                const TileTarget<T> target{out + begin * plane, plane, places, bias_ + begin, relu};
                tile_of<T>(blocks_.begin(block + 1) - begin, vectors, blocks_.narrow)(
                    g_.depth(), panels_ + begin * g_.depth(), offsets_, columns, target);
            }
        }
    }

    void run_packed(const T* image, ptrdiff_t rows, bool relu, T* out, ptrdiff_t plane, const Own& own) const {
        const ptrdiff_t pixels = rows * g_.out_width, width = blocks_.vectors() * LANES<T>;
        ptrdiff_t rungs[PANEL_DEPTH], places[NARROW_VECTORS];
        for (ptrdiff_t k = 0; k < PANEL_DEPTH; ++k) rungs[k] = k * width;
        const T* columns[NARROW_VECTORS];
        for (ptrdiff_t v = 0; v < blocks_.vectors(); ++v) {
            columns[v] = own.panel + v * LANES<T>;
            places[v] = v * LANES<T>;
        }
        for (ptrdiff_t first = 0; first < pixels; first += width) {
            const ptrdiff_t count = smaller(width, pixels - first), vectors = divide_up(count, LANES<T>);
            for (ptrdiff_t k = 0; k == 0 || k < g_.depth(); k += PANEL_DEPTH) {  // without taps there is the bias
                const ptrdiff_t depth = smaller(PANEL_DEPTH, g_.depth() - k);
                pack_panel(image, first, count, k, depth, width, own.panel);
                for (ptrdiff_t block = 0; block < blocks_.count; ++block) {
                    const ptrdiff_t begin = blocks_.begin(block), size = blocks_.begin(block + 1) - begin;
                    const TileTarget<T> target{own.tile + begin * width, width, places, k ? nullptr : bias_ + begin,
                                               relu && k + depth == g_.depth()};
                    tile_of<T>(size, vectors, blocks_.narrow)(depth, panels_ + begin * g_.depth() + k * size, rungs,
                                                              columns, target);
                }
            }
            for (ptrdiff_t f = 0; f < blocks_.rows; ++f) copy(out + f * plane + first, own.tile + f * width, count);
        }
    }

    // The values that taps [k, k + depth) meet at `count` pixels, row after row of the output. Whole vectors are
    // written, and what lies past the end of a piece is written over by the next.
    void pack_panel(const T* image, ptrdiff_t first, ptrdiff_t count, ptrdiff_t k, ptrdiff_t depth, ptrdiff_t width,
                    T* panel) const {
        const ptrdiff_t row = first / g_.out_width, column = first % g_.out_width;
        for (ptrdiff_t end = k + depth; k < end; ++k, panel += width) {
            const T* from = image + offsets_[k] + row * step_;
            for (ptrdiff_t done = 0, x = column; done < count; x = 0, from += step_) {
                const ptrdiff_t length = smaller(g_.out_width - x, count - done);
                for (ptrdiff_t i = 0; i < length; i += LANES<T>) store(panel + done + i, load(from + x + i));
                done += length;
            }
        }
    }

    Correlation g_;
    RowBlocks blocks_;
    bool packed_;
    ptrdiff_t step_ = 0;
    T *panels_ = nullptr, *bias_ = nullptr;
    ptrdiff_t* offsets_ = nullptr;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
