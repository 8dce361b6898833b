// The gradients of a few 1x1 filters: each weight is the dot product of two planes, a vector being neighbouring pixels.
// A tile whose columns are filters would leave most of its vectors empty.
#pragma once
#include "padded_image.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace gconv {
namespace GCONV_LEVEL {

template <typename T>
class PixelDots {
  public:
    PixelDots(const Correlation& g, ptrdiff_t images, ptrdiff_t filters)
        : channels_(g.channels),
          filters_(filters),
          pixels_(g.pixels()),
          parts_(divide_up(g.pixels(), BLOCK)),
          count_(images * parts_),
          tasks_(smaller(count_, MAX_TASKS)) {}

    // By the shapes alone.
    static bool worthwhile(const Correlation& g, ptrdiff_t filters) {
        return is_pointwise(g) && 2 * filters <= LANES<T>;
    }

    ptrdiff_t tasks() const { return tasks_; }
    void take_shared(Arena& arena) { sums_ = arena.take<double>(tasks_ * size()); }

    struct Own {};
    Own take_own(Arena&) const { return {}; }

    // x (N, C, P), dout (N, F, P)
    void run(ptrdiff_t task, const T* x, const T* dout, const Own&) const {
        double* sums = sums_ + task * size();
        for (ptrdiff_t i = 0; i < size(); ++i) sums[i] = 0;
        for (ptrdiff_t block = task * count_ / tasks_; block < (task + 1) * count_ / tasks_; ++block) {
            const ptrdiff_t image = block / parts_, first = block % parts_ * BLOCK;
            const ptrdiff_t pixels = smaller(BLOCK, pixels_ - first);
            const T* planes = x + image * channels_ * pixels_ + first;
            const T* gradients = dout + image * filters_ * pixels_ + first;
            for (ptrdiff_t f = 0; f < filters_; f += TILE)
                for (ptrdiff_t c = 0; c < channels_; c += TILE)
                    tile(smaller(TILE, filters_ - f), smaller(TILE, channels_ - c))(
                        gradients + f * pixels_, planes + c * pixels_, pixels_, pixels, channels_,
                        sums + f * channels_ + c);
            for (ptrdiff_t f = 0; f < filters_; ++f)
                sums[filters_ * channels_ + f] += sum_of(gradients + f * pixels_, pixels);
        }
    }

    // Writes dw (F, C) and db (F,).
    void finish(int, T* dw, T* db) const {
        for (ptrdiff_t i = 0; i < size(); ++i) {
            double total = 0;
            for (ptrdiff_t task = 0; task < tasks_; ++task) total += sums_[task * size() + i];
            *(i < filters_ * channels_ ? dw + i : db + i - filters_ * channels_) = static_cast<T>(total);
        }
    }

  private:
    static constexpr ptrdiff_t BLOCK = 2048, MAX_TASKS = 16, TILE = 4;

    ptrdiff_t size() const { return filters_ * (channels_ + 1); }

    // Adds the dot products of F rows with C others, `pitch` apart each, to sums[f * row + c].
    using Tile = void (*)(const T* a, const T* b, ptrdiff_t pitch, ptrdiff_t count, ptrdiff_t row, double* sums);

    template <int F, int C>
    static void tile_of(const T* a, const T* b, ptrdiff_t pitch, ptrdiff_t count, ptrdiff_t row, double* sums) {
        Vector<T> total[F][C] = {};
        for (ptrdiff_t p = 0; p < count; p += LANES<T>) {
            const ptrdiff_t rest = smaller(LANES<T>, count - p);
            const auto at = [=](const T* from) { return rest == LANES<T> ? load(from) : load_first(from, rest, T(0)); };
            Vector<T> others[C];
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) others[c] = at(b + c * pitch + p);
#pragma GCC unroll 4
            for (int f = 0; f < F; ++f) {
                const Vector<T> own = at(a + f * pitch + p);
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) total[f][c] += own * others[c];
            }
        }
        for (int f = 0; f < F; ++f)
            for (int c = 0; c < C; ++c) sums[f * row + c] += static_cast<double>(sum<T>(total[f][c]));
    }

    template <int F>
    static Tile tile_with(ptrdiff_t c) {
        static constexpr Tile tiles[] = {tile_of<F, 1>, tile_of<F, 2>, tile_of<F, 3>, tile_of<F, 4>};
        return tiles[c - 1];
    }

    static Tile tile(ptrdiff_t f, ptrdiff_t c) {
        switch (f) {
            case 1:
                return tile_with<1>(c);
            case 2:
                return tile_with<2>(c);
            case 3:
                return tile_with<3>(c);
            default:
                return tile_with<4>(c);
        }
    }

    static double sum_of(const T* from, ptrdiff_t count) {
        Vector<T> total{};
        for (ptrdiff_t p = 0; p < count; p += LANES<T>)
            total += p + LANES<T> <= count ? load(from + p) : load_first(from + p, count - p, T(0));
        return static_cast<double>(sum<T>(total));
    }

    ptrdiff_t channels_, filters_, pixels_, parts_, count_, tasks_;
    double* sums_ = nullptr;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
