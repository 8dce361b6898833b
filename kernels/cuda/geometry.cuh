// The sizes of convolutions and poolings, one structure a launch, and the values that a window's taps read. Their
// fields are those of gpu_geometry.py.
struct ConvGeometry {
    index_t n, c, h, w, hh, ww, stride_y, stride_x, pad_y, pad_x, out_h, out_w;
    __device__ index_t plane() const { return out_h * out_w; }
    __device__ index_t pixels() const { return n * plane(); }
    __device__ index_t taps() const { return c * hh * ww; }
};

struct PoolGeometry {
    index_t planes, h, w, window_h, window_w, stride_y, stride_x, out_h, out_w;
    __device__ index_t plane() const { return out_h * out_w; }
};

// A place in an image as the sum of two: of an output pixel (where its window begins) and of a tap in the window.
// One outside of every image has coordinates that stay negative whatever is added.
struct Point {
    index_t row, column, offset;
};

__device__ inline real value_at(const real* x, index_t height, index_t width, const Point& a, const Point& b) {
    const index_t row = a.row + b.row, column = a.column + b.column;
    return row >= 0 && row < height && column >= 0 && column < width ? x[a.offset + b.offset] : real(0);
}

__device__ inline Point outside() { return Point{NOWHERE, NOWHERE, 0}; }

// Where the window of output pixel p = (n, y, x) begins.
__device__ inline Point window_of(const ConvGeometry& g, index_t p) {
    if (p >= g.pixels()) return outside();
    index_t x, y;
    const index_t image = divide(divide(p, g.out_w, x), g.out_h, y);
    const index_t row = y * g.stride_y - g.pad_y, column = x * g.stride_x - g.pad_x;
    return Point{row, column, image * g.c * g.h * g.w + row * g.w + column};
}

// Tap k = (c, hh, ww) of a window.
__device__ inline Point tap_of(const ConvGeometry& g, index_t k) {
    if (k >= g.taps()) return outside();
    index_t row, column;
    const index_t channel = divide(divide(k, g.ww, column), g.hh, row);
    return Point{row, column, (channel * g.h + row) * g.w + column};
}
