// Convolution of a batch, forward and backward: what is prepared once a call, and which thread does what.
#pragma once
#include "correlate.hpp"
#include "filter_gradient.hpp"
#include "max_pool.hpp"
#include "pixel_dots.hpp"
#include "pooled_filter_gradient.hpp"
#include "selected_filter_gradient.hpp"
#include "strided_gradient.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// All functions return false, with nothing done, where there is no memory for their scratch.

// out (N, F, H', W') = x (N, C, H, W) correlated with w (F, C, HH, WW), plus b (F,), negative values cut with relu.
template <typename T>
bool conv_forward(const Correlation& g, ptrdiff_t images, ptrdiff_t filters, const T* x, const T* w, const T* b,
                  bool relu, T* out, int threads) {
    const ptrdiff_t depth = g.depth(), plane = g.pixels();
    return over_bands(
        Correlator<T>(flattened(g), images, filters), images, threads,
        [&](Correlator<T>& correlator) {
            correlator.prepare([=](ptrdiff_t f, ptrdiff_t k) { return w[f * depth + k]; }, b);
        },
        [&](const Correlator<T>& correlator, ptrdiff_t image, ptrdiff_t band, const auto& own) {
            correlator.run_band(x + image * g.channels * g.height * g.width, band, relu, out + image * filters * plane,
                                plane, own);
        });
}

// dx (N, C, H, W) of dout (N, F, H', W') and w (F, C, HH, WW); g is the forward correlation.
template <typename T>
bool conv_input_gradient(const Correlation& g, ptrdiff_t images, ptrdiff_t filters, const T* dout, const T* w, T* dx,
                         int threads) {
    const ptrdiff_t dout_size = filters * g.pixels(), dx_size = g.channels * g.height * g.width;
    if (g.stride_y == 1 && g.stride_x == 1) {
        // A correlation with the filters turned around.
        const Correlation turned{filters,
                                 g.out_height,
                                 g.out_width,
                                 g.field_height,
                                 g.field_width,
                                 1,
                                 1,
                                 g.field_height - 1 - g.pad_y,
                                 g.field_width - 1 - g.pad_x,
                                 g.height,
                                 g.width};
        const ptrdiff_t taps = g.field_height * g.field_width;
        return over_bands(
            Correlator<T>(flattened(turned), images, g.channels), images, threads,
            [&](Correlator<T>& correlator) {
                correlator.prepare(
                    [=](ptrdiff_t c, ptrdiff_t k) {
                        return w[(k / taps * g.channels + c) * taps + taps - 1 - k % taps];
                    },
                    nullptr);
            },
            [&](const Correlator<T>& correlator, ptrdiff_t image, ptrdiff_t band, const auto& own) {
                correlator.run_band(dout + image * dout_size, band, false, dx + image * dx_size, g.height * g.width,
                                    own);
            });
    }
    StridedGradient<T> gradient(g, images, filters);
    return gradient.make_phases() &&
           over_bands(
               gradient, images, threads, [&](StridedGradient<T>& strided) { strided.prepare(w); },
               [&](const StridedGradient<T>& strided, ptrdiff_t image, ptrdiff_t band, const auto& own) {
                   strided.run(dout + image * dout_size, band, dx + image * dx_size, own);
               });
}

// dw (F, C, HH, WW) and db (F,) of dout (N, F, H', W') and x (N, C, H, W).
template <typename T>
bool conv_filter_gradient(const Correlation& g, ptrdiff_t images, ptrdiff_t filters, const T* dout, const T* x, T* dw,
                          T* db, int threads) {
    const auto sum = [&](auto gradient) {
        const bool done =
            over_groups(gradient, threads, [&](ptrdiff_t task, const auto& own) { gradient.run(task, x, dout, own); });
        if (done) gradient.finish(threads, dw, db);
        return done;
    };
    if (PixelDots<T>::worthwhile(g, filters)) return sum(PixelDots<T>(g, images, filters));
    return sum(FilterGradient<T>(flattened(g), images, filters));
}

// Convolution, ReLU and max pooling, a few pooled rows at a time, so that the activation never leaves the cache.
template <typename T>
class PooledCorrelator {
  public:
    PooledCorrelator(const Correlation& g, const Pool& pool, ptrdiff_t images, ptrdiff_t filters)
        : g_(g), pool_(pool), filters_(filters), correlator_(g, images, filters) {
        const ptrdiff_t fitting = ACTIVATION_BYTES / ptrdiff_t(sizeof(T)) / larger(filters * g.out_width, 1);
        pooled_rows_ =
            larger(1, smaller(pool.out_height,
                              (smaller(fitting, correlator_.band_rows()) - pool.pool_height) / pool.stride_y + 1));
        // Each part begins at an even row of the convolution, as the correlator asks.
        if (pooled_rows_ < pool.out_height && pooled_rows_ * pool.stride_y % 2)
            pooled_rows_ += pooled_rows_ > 1 ? -1 : 1;
        rows_ = (pooled_rows_ - 1) * pool.stride_y + pool.pool_height;
        plane_ = rows_ * g.out_width;
    }

    ptrdiff_t bands() const { return divide_up(pool_.out_height, pooled_rows_); }
    void take_shared(Arena& arena) { correlator_.take_shared(arena); }

    struct Own {
        T* activation;
        typename Correlator<T>::Own correlator;
    };

    Own take_own(Arena& arena) const {
        return {arena.take<T>(filters_ * plane_ + 2 * LANES<T>), correlator_.take_own(arena)};
    }

    void prepare(const T* w, const T* b) {
        const ptrdiff_t depth = g_.depth();
        correlator_.prepare([=](ptrdiff_t f, ptrdiff_t k) { return w[f * depth + k]; }, b);
    }

    // out and places (F, H'', W''): the rows of a band.
    template <typename Index>
    void run(const T* image, ptrdiff_t band, T* out, Index* places, const Own& own) const {
        const ptrdiff_t first = band * pooled_rows_, pooled = smaller(pooled_rows_, pool_.out_height - first);
        const ptrdiff_t y = first * pool_.stride_y, rows = (pooled - 1) * pool_.stride_y + pool_.pool_height;
        for (ptrdiff_t done = 0; done < rows; done += correlator_.band_rows())
            correlator_.run(image, y + done, smaller(correlator_.band_rows(), rows - done), true,
                            own.activation + done * g_.out_width, plane_, own.correlator);
        const T* end = own.activation + filters_ * plane_ + 2 * LANES<T>;
        for (ptrdiff_t f = 0; f < filters_; ++f) {
            const ptrdiff_t place = f * pool_.pixels() + first * pool_.out_width;
            max_pool_rows(own.activation + f * plane_, end, pool_, pooled, out + place, places + place);
        }
    }

  private:
    static constexpr ptrdiff_t ACTIVATION_BYTES = 64 * 1024;

    Correlation g_;
    Pool pool_;
    ptrdiff_t filters_;
    Correlator<T> correlator_;
    ptrdiff_t pooled_rows_, rows_, plane_;
};

// out and places (N, F, H'', W'').
template <typename T, typename Index>
bool conv_relu_pool_forward(const Correlation& g, const Pool& pool, ptrdiff_t images, ptrdiff_t filters, const T* x,
                            const T* w, const T* b, T* out, Index* places, int threads) {
    const ptrdiff_t pooled = filters * pool.pixels();
    return over_bands(
        PooledCorrelator<T>(g, pool, images, filters), images, threads,
        [&](PooledCorrelator<T>& correlator) { correlator.prepare(w, b); },
        [&](const PooledCorrelator<T>& correlator, ptrdiff_t image, ptrdiff_t band, const auto& own) {
            correlator.run(x + image * g.channels * g.height * g.width, band, out + image * pooled,
                           places + image * pooled, own);
        });
}

// Whether the function below is the faster way, and possible.
template <typename T>
bool has_pooled_filter_gradient(const Correlation& g, const Pool& pool, ptrdiff_t images, ptrdiff_t filters) {
    return SelectedFilterGradient<T>(g, pool, images, filters).worthwhile() ||
           PooledFilterGradient<T>(g, pool, images, filters).worthwhile();
}

// dw (F, C, HH, WW) and db (F,) of conv_relu_pool_forward, from dout, out and places (N, F, H'', W'').
template <typename T, typename Index>
bool conv_relu_pool_filter_gradient(const Correlation& g, const Pool& pool, ptrdiff_t images, ptrdiff_t filters,
                                    const T* dout, const T* out, const Index* places, const T* x, T* dw, T* db,
                                    int threads) {
    const auto sum = [&](auto gradient) {
        const bool done = over_groups(
            gradient, threads, [&](ptrdiff_t task, const auto& own) { gradient.run(task, x, dout, out, places, own); });
        if (done) gradient.finish(threads, dw, db);
        return done;
    };
    const SelectedFilterGradient<T> selected(g, pool, images, filters);
    return selected.worthwhile() ? sum(selected) : sum(PooledFilterGradient<T>(g, pool, images, filters));
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
