// Convolution as implicit matrix products: columns of windows are never stored, the loads compute where they lie.
//
//   forward          out[f, p]  = sum over k of w[f, k] col[k, p]             k = (c, hh, ww), p = (n, y, x)
//   filter gradient  dw[f, k]   = sum over p of dout[f, p] col[k, p]          and a column of ones for db
//   input gradient   dx[c, q]   = sum over (f, hh, ww) of w[f, c, hh, ww] dout[f, the p that tap (hh, ww) of q meets]
#include "gemm.cuh"
#include "geometry.cuh"

// col[k, p] with pixels as columns and taps as depth.
struct WindowPixels {
    typedef Point Place;
    typedef Point Step;
    static constexpr bool K_IS_FAST = false;
    const real* x;
    ConvGeometry g;
    __device__ static Point no_step() { return outside(); }
    __device__ Point place(index_t p) const { return window_of(g, p); }
    __device__ Point step(index_t k) const { return tap_of(g, k); }
    __device__ real load(const Point& window, const Point& tap) const { return value_at(x, g.h, g.w, window, tap); }
};

// The same with taps as columns and pixels as depth, and a column of ones after the last tap.
struct WindowTaps {
    typedef Point Place;
    typedef Point Step;
    static constexpr bool K_IS_FAST = true;
    static constexpr index_t ONES = -1;  // an offset that no tap has
    const real* x;
    ConvGeometry g;
    __device__ static Point no_step() { return outside(); }
    __device__ Point place(index_t k) const { return k == g.taps() ? Point{0, 0, ONES} : tap_of(g, k); }
    __device__ Point step(index_t p) const { return window_of(g, p); }
    __device__ real load(const Point& tap, const Point& window) const {
        if (tap.offset == ONES) return window.row == NOWHERE ? real(0) : real(1);
        return value_at(x, g.h, g.w, window, tap);
    }
};

// dout[f, p] of dout (N, F, H', W'): filters as rows, pixels as depth.
struct Upstream : Gather {
    static constexpr bool K_IS_FAST = true;
    index_t filters, plane;
    __device__ Upstream(const real* dout, index_t filters_, index_t plane_) : filters(filters_), plane(plane_) {
        values = dout;
    }
    __device__ index_t place(index_t f) const { return f < filters ? f * plane : NOWHERE; }
    __device__ index_t step(index_t p) const {
        index_t pixel;
        const index_t image = divide(p, plane, pixel);
        return image * filters * plane + pixel;
    }
};

struct ConvOutput {
    real* out;  // (N, F, H', W')
    const real* bias;
    index_t filters, plane, pixels;
    bool with_relu;
    __device__ void put4(index_t f, index_t p, const real (&four)[4]) const {
        if (f >= filters || p >= pixels) return;
        index_t pixel;
        index_t image = divide(p, plane, pixel);
        for (int i = 0; i < 4 && p + i < pixels; ++i) {
            const real value = four[i] + bias[f];
            out[(image * filters + f) * plane + pixel] = with_relu ? relu(value) : value;
            if (++pixel == plane) pixel = 0, ++image;
        }
    }
};

// blockIdx.x: tiles of filters by pixels.
#define CONV_FORWARD(name, T)                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                        \
        KERNEL(name)(const real* x, const real* filters, const real* b, real* out, index_t f, index_t with_relu, \
                     const ConvGeometry g) {                                                                     \
        gemm<T>(RowMajor(filters, f, g.taps()), WindowPixels{x, g},                                              \
                ConvOutput{out, b, f, g.plane(), g.pixels(), with_relu != 0}, g.pixels(), 0, g.taps());          \
    }
CONV_FORWARD(conv_forward_strip, StripTile)
CONV_FORWARD(conv_forward_square, SquareTile)
CONV_FORWARD(conv_forward_large, LargeTile)

struct FilterGradient {
    Partial partial;
    real *dw, *db;
    index_t filters, taps;
    __device__ void put(index_t f, index_t k, real value) const {
        if (k < taps)
            dw[f * taps + k] = value;
        else
            db[f] = value;
    }
    __device__ void put4(index_t f, index_t k, const real (&four)[4]) const {
        if (partial.put4(f, k, four)) return;
        for (int i = 0; i < 4; ++i)
            if (f < filters && k + i <= taps) put(f, k + i, four[i]);
    }
};

// blockIdx: x tiles of filters by taps, y splits of the pixels.
#define CONV_FILTER_GRADIENT(name, T)                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                          \
        KERNEL(name)(const real* dout, const real* x, real* dw, real* db, real* partial, index_t f, index_t chunk, \
                     const ConvGeometry g) {                                                                       \
        gemm<T>(Upstream(dout, f, g.plane()), WindowTaps{x, g},                                                    \
                FilterGradient{{partial, f, g.taps() + 1}, dw, db, f, g.taps()}, g.taps() + 1, split_begin(chunk), \
                split_end(chunk, g.pixels()));                                                                     \
    }
CONV_FILTER_GRADIENT(conv_filter_gradient_strip, StripTile)
CONV_FILTER_GRADIENT(conv_filter_gradient_square, SquareTile)
CONV_FILTER_GRADIENT(conv_filter_gradient_large, LargeTile)

extern "C" __global__ void KERNEL(conv_filter_gradient_add)(const real* partial, real* dw, real* db, index_t splits,
                                                            index_t f, index_t taps) {
    add_splits(partial, splits, f, taps + 1, FilterGradient{Partial::none(), dw, db, f, taps});
}

// The input gradient, for one of the stride_y * stride_x classes of pixels: those with (row + pad_y) % stride_y =
// class_y meet only the taps with hh % stride_y = class_y, so within a class every product counts.
struct PixelClass {
    ConvGeometry g;
    index_t filters, class_y, class_x;
    index_t first_row, first_column;  // the first pixel of the class
    index_t rows, columns;            // how many it has
    index_t taps_y, taps_x;           // how many taps it meets
    index_t first_y, first_x;         // the output row and column that tap 0 of the first pixel meets

    __device__ PixelClass(const ConvGeometry& geometry, index_t f, index_t index) : g(geometry), filters(f) {
        class_y = divide(index, g.stride_x, class_x);
        along(g.h, g.hh, g.stride_y, g.pad_y, class_y, first_row, rows, taps_y, first_y);
        along(g.w, g.ww, g.stride_x, g.pad_x, class_x, first_column, columns, taps_x, first_x);
    }
    __device__ static void along(index_t size, index_t field, index_t stride, index_t pad, index_t mine, index_t& first,
                                 index_t& count, index_t& taps, index_t& out) {
        first = ((mine - pad) % stride + stride) % stride;
        // first and mine are below the stride, so these are 0 and not negative where there are none
        count = (size - first + stride - 1) / stride;
        taps = (field - mine + stride - 1) / stride;
        out = (first + pad) / stride;
    }
    __device__ index_t pixels() const { return g.n * rows * columns; }
    __device__ index_t depth() const { return filters * taps_y * taps_x; }
};

// w[f, c, hh, ww] with channels as rows and (f, taps of the class) as depth.
struct FiltersOfClass : Gather {
    static constexpr bool K_IS_FAST = true;
    PixelClass pixels;
    __device__ FiltersOfClass(const real* w, const PixelClass& p) : pixels(p) { values = w; }
    __device__ index_t place(index_t c) const { return c < pixels.g.c ? c * pixels.g.hh * pixels.g.ww : NOWHERE; }
    __device__ index_t step(index_t k) const {
        index_t a, b;
        const index_t f = divide(divide(k, pixels.taps_x, b), pixels.taps_y, a);
        const index_t hh = pixels.class_y + a * pixels.g.stride_y, ww = pixels.class_x + b * pixels.g.stride_x;
        return f * pixels.g.taps() + hh * pixels.g.ww + ww;
    }
};

// dout at the output that tap (a, b) of the class meets, for pixels of the class as columns.
struct UpstreamOfClass {
    typedef Point Place;
    typedef Point Step;
    static constexpr bool K_IS_FAST = false;
    const real* dout;
    PixelClass pixels;
    __device__ static Point no_step() { return outside(); }
    __device__ Point place(index_t q) const {
        if (q >= pixels.pixels()) return outside();
        index_t i, j;
        const index_t image = divide(divide(q, pixels.columns, j), pixels.rows, i);
        const index_t y = pixels.first_y + i, x = pixels.first_x + j;
        return Point{y, x, (image * pixels.filters * pixels.g.out_h + y) * pixels.g.out_w + x};
    }
    __device__ Point step(index_t k) const {
        index_t a, b;
        const index_t f = divide(divide(k, pixels.taps_x, b), pixels.taps_y, a);
        return Point{-a, -b, (f * pixels.g.out_h - a) * pixels.g.out_w - b};
    }
    __device__ real load(const Point& pixel, const Point& tap) const {
        return value_at(dout, pixels.g.out_h, pixels.g.out_w, pixel, tap);
    }
};

// A pixel's gradient from the outputs whose windows hold it, and no others. In the product above a weight that is not
// finite meets zeros around dout too, and makes NaN of them. A call, so that it takes few registers of the product.
__device__ __noinline__ real gradient_of_pixel(const real* dout, const real* w, const ConvGeometry& g, index_t filters,
                                               index_t place) {
    index_t column, row, c;
    const index_t image = divide(divide(divide(place, g.w, column), g.h, row), g.c, c);
    real total = real(0);
    for (index_t f = 0; f < filters; ++f)
        for (index_t hh = (row + g.pad_y) % g.stride_y; hh < g.hh; hh += g.stride_y)
            for (index_t ww = (column + g.pad_x) % g.stride_x; ww < g.ww; ww += g.stride_x) {
                if (row + g.pad_y < hh || column + g.pad_x < ww) continue;
                const index_t y = (row + g.pad_y - hh) / g.stride_y, x = (column + g.pad_x - ww) / g.stride_x;
                if (y >= g.out_h || x >= g.out_w) continue;
                total += w[((f * g.c + c) * g.hh + hh) * g.ww + ww] *
                         dout[((image * filters + f) * g.out_h + y) * g.out_w + x];
            }
    return total;
}

struct InputGradient {
    real* dx;  // (N, C, H, W)
    const real *dout, *filters;
    const ConvGeometry* geometry;
    PixelClass pixels;
    __device__ void put4(index_t c, index_t q, const real (&four)[4]) const {
        for (int k = 0; k < 4; ++k) {
            if (c >= pixels.g.c || q + k >= pixels.pixels()) return;
            index_t i, j;
            const index_t image = divide(divide(q + k, pixels.columns, j), pixels.rows, i);
            const index_t row = pixels.first_row + i * pixels.g.stride_y;
            const index_t column = pixels.first_column + j * pixels.g.stride_x;
            const index_t place = ((image * pixels.g.c + c) * pixels.g.h + row) * pixels.g.w + column;
            dx[place] =
                four[k] == four[k] ? four[k] : gradient_of_pixel(dout, filters, *geometry, pixels.filters, place);
        }
    }
};

// blockIdx: x tiles of channels by pixels of the class, of which the largest has `columns`; y classes.
#define CONV_INPUT_GRADIENT(name, T)                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                             \
        KERNEL(name)(const real* dout, const real* filters, real* dx, index_t f, index_t columns,     \
                     const __grid_constant__ ConvGeometry g) {                                        \
        for (index_t i = (index_t)blockIdx.y; i < g.stride_y * g.stride_x; i += (index_t)gridDim.y) { \
            const PixelClass pixels(g, f, i);                                                         \
            gemm<T>(FiltersOfClass(filters, pixels), UpstreamOfClass{dout, pixels},                   \
                    InputGradient{dx, dout, filters, &g, pixels}, columns, 0, pixels.depth());        \
        }                                                                                             \
    }
CONV_INPUT_GRADIENT(conv_input_gradient_strip, StripTile)
CONV_INPUT_GRADIENT(conv_input_gradient_square, SquareTile)
CONV_INPUT_GRADIENT(conv_input_gradient_large, LargeTile)

// Convolution, bias, ReLU and max pooling of 2 x 2 windows with stride 2 in one kernel. The columns are ordered
// (n, pooled row, pooled column, row in window, column in window): the 4 that one thread holds are a window. Columns
// past the last belong to images past the last, which window_of knows.
struct PooledPixels : WindowPixels {
    index_t pool_h, pool_w;
    __device__ PooledPixels(const real* x_, const ConvGeometry& geometry, index_t pool_h_, index_t pool_w_)
        : WindowPixels{x_, geometry}, pool_h(pool_h_), pool_w(pool_w_) {}
    __device__ Point place(index_t q) const {
        index_t x, y;
        const index_t image = divide(divide(q / 4, pool_w, x), pool_h, y);
        return window_of(g, (image * g.out_h + 2 * y + q % 4 / 2) * g.out_w + 2 * x + q % 2);
    }
};

struct PooledOutput {
    real* out;              // (N, F, H'', W'')
    unsigned char* argmax;  // of the same shape: 2 * row + column in the window
    const real* bias;
    index_t filters, plane, windows;
    __device__ void put4(index_t f, index_t q, const real (&four)[4]) const {
        const index_t window = q / 4;
        if (f >= filters || window >= windows) return;
        real best = relu(four[0] + bias[f]);
        int place = 0;
        for (int i = 1; i < 4; ++i) {
            const real value = relu(four[i] + bias[f]);
            if (value > best || (value != value && best == best)) best = value, place = i;
        }
        index_t pixel;
        const index_t image = divide(window, plane, pixel);
        out[(image * filters + f) * plane + pixel] = best;
        argmax[(image * filters + f) * plane + pixel] = (unsigned char)place;
    }
};

// blockIdx.x: tiles of filters by the windows' pixels.
#define CONV_RELU_POOL_FORWARD(name, T)                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                            \
        KERNEL(name)(const real* x, const real* filters, const real* b, real* out, unsigned char* argmax, index_t f, \
                     const ConvGeometry g, const PoolGeometry pool) {                                                \
        const index_t windows = g.n * pool.plane();                                                                  \
        gemm<T>(RowMajor(filters, f, g.taps()), PooledPixels(x, g, pool.out_h, pool.out_w),                          \
                PooledOutput{out, argmax, b, f, pool.plane(), windows}, windows * 4, 0, g.taps());                   \
    }
CONV_RELU_POOL_FORWARD(conv_relu_pool_forward_strip, StripTile)
CONV_RELU_POOL_FORWARD(conv_relu_pool_forward_square, SquareTile)
CONV_RELU_POOL_FORWARD(conv_relu_pool_forward_large, LargeTile)
