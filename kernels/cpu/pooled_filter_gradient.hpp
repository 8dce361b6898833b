// The gradients of filters and biases of a convolution that ReLU and max pooling follow, without the convolution's
// gradient: at most one pixel of each window has one. Its product with the pixel's window is added to the filter's sum.
#pragma once
#include "max_pool.hpp"
#include "padded_image.hpp"
#include "parallel.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// What reaches the convolution of one filter's pooled gradients: values, and where their windows begin in the image.
template <typename T>
struct PassedGradients {
    T* values;
    ptrdiff_t* places;
};

// sums[c][i] += over the gradients: value * the vector at row i of channel c of the gradient's window.
template <typename T>
using WindowSum = void (*)(const T* image, const PaddedLayout& layout, const PassedGradients<T>& passed,
                           ptrdiff_t count, T* sums);

template <typename T, int BYTES, int FIELD_HEIGHT, int CHANNELS>
void window_sum(const T* image, const PaddedLayout& layout, const PassedGradients<T>& passed, ptrdiff_t count,
                T* sums) {
    typedef T Row __attribute__((vector_size(BYTES)));
    typedef T Unaligned __attribute__((vector_size(BYTES), aligned(sizeof(T))));
    constexpr int lanes = BYTES / sizeof(T);
    Row total[CHANNELS][FIELD_HEIGHT];
#pragma GCC unroll 24
    for (int c = 0; c < CHANNELS; ++c)
#pragma GCC unroll 8
        for (int i = 0; i < FIELD_HEIGHT; ++i)
            total[c][i] = *reinterpret_cast<const Unaligned*>(sums + (c * FIELD_HEIGHT + i) * lanes);
    const ptrdiff_t row_pitch = layout.row_pitch, plane_pitch = layout.plane_pitch;
    for (ptrdiff_t n = 0; n < count; ++n) {
        const Row value = passed.values[n] - Row{};
        const T* window = image + passed.places[n];
#pragma GCC unroll 24
        for (int c = 0; c < CHANNELS; ++c, window += plane_pitch)
#pragma GCC unroll 8
            for (int i = 0; i < FIELD_HEIGHT; ++i)
                total[c][i] += value * *reinterpret_cast<const Unaligned*>(window + i * row_pitch);
    }
#pragma GCC unroll 24
    for (int c = 0; c < CHANNELS; ++c)
#pragma GCC unroll 8
        for (int i = 0; i < FIELD_HEIGHT; ++i)
            *reinterpret_cast<Unaligned*>(sums + (c * FIELD_HEIGHT + i) * lanes) = total[c][i];
}

template <typename T>
class PooledFilterGradient {
  public:
    PooledFilterGradient(const Correlation& g, const Pool& pool, ptrdiff_t images, ptrdiff_t filters)
        : g_(g),
          pool_(pool),
          images_(images),
          filters_(filters),
          lanes_(lanes_of(g.field_width)),
          pooled_rows_(rows_of_a_band()),
          layout_(g, (pooled_rows_ - 1) * pool.stride_y + pool.pool_height, sizeof(T), LANES<T>),
          groups_(larger(
              1, smaller(smaller(images, MAX_GROUPS), GROUPS_BYTES / ptrdiff_t(sizeof(T)) / larger(group_size(), 1)))) {
    }

    // Few gradients among many pixels, and a filter for which there is code.
    bool worthwhile() const {
        const ptrdiff_t h = g_.field_height;
        return g_.stride_x == 1 && pool_.stride_y * pool_.stride_x >= 4 && (h == 3 || h == 5 || h == 7) &&
               g_.field_width <= lanes_ && pool_.window() <= MAX_WINDOW;
    }

    ptrdiff_t tasks() const { return groups_; }

    void take_shared(Arena& arena) { sums_ = arena.take<T>(groups_ * group_size()); }

    struct Own {
        T *image, *unsorted;
        PassedGradients<T> passed;
    };

    Own take_own(Arena& arena) const {
        const ptrdiff_t most = pooled_rows_ * pool_.out_width + 1;
        return {arena.take<T>(layout_.size),
                arena.take<T>(layout_.unsorted),
                {arena.take<T>(most), arena.take<ptrdiff_t>(most)}};
    }

    // dout, out and places (N, F, H'', W'')
    template <typename Index>
    void run(ptrdiff_t group, const T* x, const T* dout, const T* out, const Index* places, const Own& own) const {
        T* sums = sums_ + group * group_size();
        fill(sums, T(0), group_size());
        for (ptrdiff_t image = group * images_ / groups_; image < (group + 1) * images_ / groups_; ++image)
            for (ptrdiff_t y = 0; y < pool_.out_height; y += pooled_rows_) {
                const ptrdiff_t rows = smaller(pooled_rows_, pool_.out_height - y);
                pad_image(g_, layout_, x + image * g_.channels * g_.height * g_.width, y * pool_.stride_y,
                          (rows - 1) * pool_.stride_y + pool_.pool_height, own.unsorted, own.image);
                for (ptrdiff_t f = 0; f < filters_; ++f) {
                    const ptrdiff_t first = (image * filters_ + f) * pool_.pixels() + y * pool_.out_width;
                    const ptrdiff_t count = find(dout + first, out + first, places + first, rows, own.passed);
                    add(own, count, sums + f * filter_size());
                }
            }
    }

    // Writes dw (F, C, HH, WW) and db (F,).
    void finish(int, T* dw, T* db) const {
        for (ptrdiff_t group = 1; group < groups_; ++group)
            for (ptrdiff_t i = 0; i < group_size(); ++i) sums_[i] += sums_[group * group_size() + i];
        for (ptrdiff_t f = 0; f < filters_; ++f) {
            const T* total = sums_ + f * filter_size();
            for (ptrdiff_t row = 0; row < window_rows(); ++row)
                copy(dw + (f * window_rows() + row) * g_.field_width, total + row * lanes_, g_.field_width);
            db[f] = total[window_rows() * lanes_];
        }
    }

  private:
    static constexpr ptrdiff_t MAX_GROUPS = 16;
    static constexpr ptrdiff_t GROUPS_BYTES = 8 << 20;
    static constexpr ptrdiff_t BAND_BYTES = 256 * 1024;
    static constexpr ptrdiff_t MAX_WINDOW = 64;
    static constexpr int ROWS = REGISTERS == 32 ? 21 : 12;  // sums in registers

    // Lanes of the shortest vector that holds a filter's row: 16, 32 or 64 bytes.
    static ptrdiff_t lanes_of(ptrdiff_t field_width) {
        ptrdiff_t lanes = 16 / sizeof(T);
        while (lanes < field_width && lanes < LANES<T>) lanes *= 2;
        return lanes;
    }

    ptrdiff_t rows_of_a_band() const {
        const ptrdiff_t row = PaddedLayout(g_, 1, sizeof(T), 0).row_pitch * g_.channels * ptrdiff_t(sizeof(T));
        const ptrdiff_t fitting = BAND_BYTES / larger(row, 1) - g_.field_height;
        return larger(1,
                      smaller(pool_.out_height, (fitting / g_.stride_y + 1 - pool_.pool_height) / pool_.stride_y + 1));
    }

    ptrdiff_t window_rows() const { return g_.channels * g_.field_height; }
    ptrdiff_t filter_size() const { return window_rows() * lanes_ + 1; }
    ptrdiff_t group_size() const { return filters_ * filter_size(); }

    template <typename Index>
    ptrdiff_t find(const T* dout, const T* out, const Index* places, ptrdiff_t rows,
                   const PassedGradients<T>& passed) const {
        const ptrdiff_t window = pool_.window(), width = pool_.out_width, step = pool_.stride_x;
        const ptrdiff_t down = g_.stride_y * layout_.row_pitch;
        ptrdiff_t offsets[MAX_WINDOW], found = 0;
        for (ptrdiff_t place = 0; place < window; ++place)
            offsets[place] = place / pool_.pool_width * down + place % pool_.pool_width;
        T* values = passed.values;
        ptrdiff_t* begins = passed.places;
        for (ptrdiff_t y = 0; y < rows; ++y, dout += width, out += width, places += width) {
            ptrdiff_t corner = y * pool_.stride_y * down;
            for (ptrdiff_t x = 0; x < width; ++x, corner += step) {
                // Without branches: whether a gradient passes is a coin toss.
                const ptrdiff_t place = static_cast<ptrdiff_t>(places[x]);
                const bool inside = place >= 0 && place < window;
                begins[found] = corner + offsets[inside ? place : 0];
                values[found] = dout[x];
                found += (out[x] > 0) & inside;
            }
        }
        return found;
    }

    void add(const Own& own, ptrdiff_t count, T* sums) const {
        switch (g_.field_height) {
            case 3:
                add_of_height<3>(own, count, sums);
                break;
            case 5:
                add_of_height<5>(own, count, sums);
                break;
            default:
                add_of_height<7>(own, count, sums);
        }
        T bias[4] = {};
        ptrdiff_t n = 0;
        for (; n + 4 <= count; n += 4)
            for (int i = 0; i < 4; ++i) bias[i] += own.passed.values[n + i];
        for (; n < count; ++n) bias[0] += own.passed.values[n];
        sums[window_rows() * lanes_] += (bias[0] + bias[1]) + (bias[2] + bias[3]);
    }

    // Many channels at a time, then three, then one.
    template <int FIELD_HEIGHT>
    void add_of_height(const Own& own, ptrdiff_t count, T* sums) const {
        constexpr int most = ROWS / FIELD_HEIGHT, three = most < 3 ? 1 : 3;
        ptrdiff_t c = 0;
        while (c < g_.channels) {
            const ptrdiff_t left = g_.channels - c;
            const T* image = own.image + c * layout_.plane_pitch;
            T* to = sums + c * FIELD_HEIGHT * lanes_;
            if (left >= most) {
                sum_of_width<FIELD_HEIGHT, most>()(image, layout_, own.passed, count, to);
                c += most;
            } else if (left >= three) {
                sum_of_width<FIELD_HEIGHT, three>()(image, layout_, own.passed, count, to);
                c += three;
            } else {
                sum_of_width<FIELD_HEIGHT, 1>()(image, layout_, own.passed, count, to);
                c += 1;
            }
        }
    }

    template <int FIELD_HEIGHT, int CHANNELS>
    WindowSum<T> sum_of_width() const {
        switch (lanes_ * ptrdiff_t(sizeof(T))) {
#if GCONV_VECTOR_BYTES >= 64
            case 64:
                return window_sum<T, 64, FIELD_HEIGHT, CHANNELS>;
#endif
#if GCONV_VECTOR_BYTES >= 32
            case 32:
                return window_sum<T, 32, FIELD_HEIGHT, CHANNELS>;
#endif
            default:
                return window_sum<T, 16, FIELD_HEIGHT, CHANNELS>;
        }
    }

    Correlation g_;
    Pool pool_;
    ptrdiff_t images_, filters_, lanes_, pooled_rows_;
    PaddedLayout layout_;
    ptrdiff_t groups_;
    T* sums_ = nullptr;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
