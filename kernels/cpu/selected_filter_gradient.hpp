// The gradients of filters and biases of a convolution that ReLU and max pooling follow, for instruction sets that can
// pick the lanes of a register by a vector of numbers, and windows of 2 x 2.
//
// A pooled gradient goes to one pixel of its window. For each tap the values that the window's pixels meet stand side
// by side; a vector of filters picks from them by its places, one value a filter, and multiplies once. The whole
// convolution's gradient would take four products.
#pragma once
#include "filter_sums.hpp"
#include "max_pool.hpp"
#include "padded_image.hpp"

namespace gconv {
namespace GCONV_LEVEL {

#if GCONV_VECTOR_BYTES == 64
// Whether there is an instruction for pick().
constexpr bool PICKS_LANES = true;
// Lane i is the lane places[i] of `values`.
GCONV_INLINE Vector<float> pick(Vector<float> values, Integers<float> places) {
    return (Vector<float>)_mm512_permutexvar_ps((__m512i)places, (__m512)values);
}
GCONV_INLINE Vector<double> pick(Vector<double> values, Integers<double> places) {
    return (Vector<double>)_mm512_permutexvar_pd((__m512i)places, (__m512d)values);
}
#else
constexpr bool PICKS_LANES = false;
template <typename V, typename I>
GCONV_INLINE V pick(V values, I) {
    return values;  // never called
}
#endif

// The most taps of a tile: sums, gradients, places and a window fill the registers.
constexpr ptrdiff_t pick_taps(ptrdiff_t vectors) { return vectors == 4 ? 5 : vectors == 3 ? 6 : 8; }

// sums[m][v] += over (y, x): (the value of taps[m][y * down + x * right ...] that places pick) * gradients
template <typename T>
using PickTile = void (*)(ptrdiff_t rows, ptrdiff_t width, ptrdiff_t down, ptrdiff_t right, const T* const* taps,
                          const T* gradients, const T* places, T* sums);

template <typename T, int TAPS, int VECTORS>
void pick_tile(ptrdiff_t rows, ptrdiff_t width, ptrdiff_t down, ptrdiff_t right, const T* const* taps,
               const T* gradients, const T* places, T* sums) {
    constexpr ptrdiff_t pitch = VECTORS * LANES<T>;
    Vector<T> total[TAPS][VECTORS];
    const T* tap[TAPS];
#pragma GCC unroll 8
    for (int m = 0; m < TAPS; ++m) {
        tap[m] = taps[m];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) total[m][v] = load(sums + m * pitch + v * LANES<T>);
    }
    for (ptrdiff_t y = 0; y < rows; ++y) {
        for (ptrdiff_t x = 0, at = 0; x < width; ++x, at += right, gradients += pitch, places += pitch) {
            Vector<T> gradient[VECTORS];
            Integers<T> place[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) {
                gradient[v] = load(gradients + v * LANES<T>);
                place[v] = (Integers<T>)load(places + v * LANES<T>);
            }
#pragma GCC unroll 8
            for (int m = 0; m < TAPS; ++m) {
                const Vector<T> window = load(tap[m] + at);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) total[m][v] += pick(window, place[v]) * gradient[v];
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < TAPS; ++m) tap[m] += down;
    }
#pragma GCC unroll 8
    for (int m = 0; m < TAPS; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) store(sums + m * pitch + v * LANES<T>, total[m][v]);
}

template <typename T, int VECTORS>
PickTile<T> pick_tile_with(ptrdiff_t taps) {
    static constexpr PickTile<T> tiles[] = {
        pick_tile<T, 1, VECTORS>, pick_tile<T, 2, VECTORS>, pick_tile<T, 3, VECTORS>, pick_tile<T, 4, VECTORS>,
        pick_tile<T, 5, VECTORS>, pick_tile<T, 6, VECTORS>, pick_tile<T, 7, VECTORS>, pick_tile<T, 8, VECTORS>};
    return tiles[taps - 1];
}

template <typename T>
class SelectedFilterGradient {
  public:
    SelectedFilterGradient(const Correlation& g, const Pool& pool, ptrdiff_t images, ptrdiff_t filters)
        : g_(g),
          pool_(pool),
          filters_(filters),
          sums_(g.depth(), images, filters, pool.pixels()),
          pooled_rows_(rows_of_a_band()),
          layout_(g, conv_rows(pooled_rows_), sizeof(T), LANES<T>) {}

    // Pixels next to each other in memory, several for a gradient; other windows took longer to write than they saved.
    bool worthwhile() const {
        return PICKS_LANES && g_.stride_x == 1 && pool_.stride_y * pool_.stride_x >= 4 && pool_.pool_height == 2 &&
               pool_.pool_width == 2;
    }

    ptrdiff_t tasks() const { return sums_.tasks(); }

    void take_shared(Arena& arena) {
        sums_.take(arena);
        offsets_ = arena.take<ptrdiff_t>(g_.depth());
        if (offsets_) tap_offsets(g_, layout_, 0, 0, offsets_);
    }

    struct Own {
        T *image, *unsorted, *windows, *gradients, *places;
    };

    Own take_own(Arena& arena) const {
        const ptrdiff_t most = OUTER_VECTORS * LANES<T> * (pooled_rows_ * pool_.out_width + LANES<T>);
        return {arena.take<T>(layout_.size), arena.take<T>(layout_.unsorted),
                arena.take<T>(layout_.size * WINDOW + 4 * LANES<T>), arena.take<T>(most), arena.take<T>(most)};
    }

    // x (N, C, H, W); dout, out and places (N, F, H'', W'')
    template <typename Index>
    void run(ptrdiff_t task, const T* x, const T* dout, const T* out, const Index* places, const Own& own) const {
        auto at = sums_.begin(task);
        for (ptrdiff_t image = at.first_image; image < at.last_image; ++image)
            for (ptrdiff_t y = 0; y < pool_.out_height; y += pooled_rows_) {
                const ptrdiff_t rows = smaller(pooled_rows_, pool_.out_height - y);
                pad_image(g_, layout_, x + image * g_.channels * g_.height * g_.width, y * pool_.stride_y,
                          conv_rows(rows), own.unsorted, own.image);
                write_windows(rows, own);
                for (ptrdiff_t number = 0; number < sums_.parts.count; ++number) {
                    const ColumnParts::Part part = sums_.parts[number];
                    const ptrdiff_t first = (image * filters_ + part.begin) * pool_.pixels() + y * pool_.out_width;
                    pack(PooledGradient<T>{dout + first, out + first}, places + first, filters_ - part.begin,
                         rows * pool_.out_width, part.width, own);
                    add_products(part, own, rows, at.first, at.last, sums_.of(at.sums, part));
                    if (at.has_bias()) sums_.add_bias(at.sums, part, own.gradients, rows, pool_.out_width);
                }
                sums_.added(at, rows * pool_.out_width);
            }
    }

    void finish(int threads, T* dw, T* db) const { sums_.finish(threads, dw, db); }

  private:
    static constexpr ptrdiff_t WINDOW = 4;
    static constexpr ptrdiff_t WINDOWS_BYTES = 256 * 1024;

    ptrdiff_t conv_rows(ptrdiff_t pooled) const { return (pooled - 1) * pool_.stride_y + pool_.pool_height; }

    ptrdiff_t rows_of_a_band() const {
        const ptrdiff_t row = PaddedLayout(g_, 1, sizeof(T), 0).row_pitch * g_.channels * WINDOW;
        const ptrdiff_t image_rows = WINDOWS_BYTES / ptrdiff_t(sizeof(T)) / larger(row, 1);
        const ptrdiff_t fitting = (image_rows - g_.field_height) / g_.stride_y + 1;
        return larger(1, smaller(pool_.out_height, (fitting - pool_.pool_height) / pool_.stride_y + 1));
    }

    // For each place of the padded image the four values at which a pooling window's pixels meet a tap there.
    void write_windows(ptrdiff_t rows, const Own& own) const {
        const ptrdiff_t down = g_.stride_y * layout_.row_pitch;
        const ptrdiff_t count = ((rows - 1) * pool_.stride_y * g_.stride_y + g_.field_height) * layout_.row_pitch;
        for (ptrdiff_t c = 0; c < g_.channels; ++c) {
            const T* from = own.image + c * layout_.plane_pitch;
            T* to = own.windows + c * layout_.plane_pitch * WINDOW;
            for (ptrdiff_t i = 0; i < count; i += LANES<T>, from += LANES<T>) {
                Vector<T> left[2], right[2];
                interleave<T>(load(from), load(from + down), left[0], left[1]);
                interleave<T>(load(from + 1), load(from + 1 + down), right[0], right[1]);
                for (int half = 0; half < 2; ++half, to += 2 * LANES<T>) {
                    Vector<T> low, high;
                    interleave<T>(left[half], right[half], low, high);
                    store(to, low);
                    store(to + LANES<T>, high);
                }
            }
        }
    }

    // A row of filters for each pooled pixel: gradients, and places as integers of the same width.
    template <typename Index>
    void pack(PooledGradient<T> gradient, const Index* places, ptrdiff_t filters, ptrdiff_t pixels, ptrdiff_t width,
              const Own& own) const {
        const ptrdiff_t plane = pool_.pixels();
        for (ptrdiff_t f = 0; f < width; f += LANES<T>)
            for (ptrdiff_t p = 0; p < pixels; p += LANES<T>) {
                const ptrdiff_t count = smaller(LANES<T>, pixels - p);
                Vector<T> values[LANES<T>], marks[LANES<T>];
#pragma GCC unroll 16
                for (int i = 0; i < LANES<T>; ++i) {
                    values[i] = marks[i] = Vector<T>{};
                    if (f + i >= filters) continue;
                    const ptrdiff_t first = (f + i) * plane + p;
                    const Integers<T> place = load_places<T>(places + first, count);
                    // A place outside the window, which memory of the caller's could hold, passes nothing.
                    values[i] = place < typename Simd<T>::Integer(WINDOW) ? gradient.vector(first, count) : Vector<T>{};
                    marks[i] = (Vector<T>)place;
                }
                transpose<T>(values);
                transpose<T>(marks);
#pragma GCC unroll 16
                for (int i = 0; i < LANES<T>; ++i) {
                    store(own.gradients + (p + i) * width + f, values[i]);
                    store(own.places + (p + i) * width + f, marks[i]);
                }
            }
    }

    void add_products(const ColumnParts::Part& part, const Own& own, ptrdiff_t rows, ptrdiff_t first, ptrdiff_t last,
                      T* sums) const {
        const ptrdiff_t vectors = part.width / LANES<T>;
        const ptrdiff_t blocks = divide_up(last - first, pick_taps(vectors));
        const ptrdiff_t down = pool_.stride_y * g_.stride_y * layout_.row_pitch * WINDOW;
        for (ptrdiff_t block = 0; block < blocks; ++block) {
            const ptrdiff_t k = first + block * (last - first) / blocks;
            const ptrdiff_t taps = first + (block + 1) * (last - first) / blocks - k;
            const T* columns[8];
            for (ptrdiff_t m = 0; m < taps; ++m) columns[m] = own.windows + offsets_[k + m] * WINDOW;
            tile(taps, vectors)(rows, pool_.out_width, down, pool_.stride_x * WINDOW, columns, own.gradients,
                                own.places, sums + k * part.width);
        }
    }

    static PickTile<T> tile(ptrdiff_t taps, ptrdiff_t vectors) {
        switch (vectors) {
            case 1:
                return pick_tile_with<T, 1>(taps);
            case 2:
                return pick_tile_with<T, 2>(taps);
            case 3:
                return pick_tile_with<T, 3>(taps);
            default:
                return pick_tile_with<T, 4>(taps);
        }
    }

    Correlation g_;
    Pool pool_;
    ptrdiff_t filters_;
    FilterSums<T> sums_;
    ptrdiff_t pooled_rows_;
    PaddedLayout layout_;
    ptrdiff_t* offsets_ = nullptr;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
