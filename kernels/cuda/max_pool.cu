// Max pooling of any window, stride and rest, with the place of each maximum; and its gradient as a gather.

// NaN is a maximum, as in NumPy, and the first maximum in row-major order counts.
__device__ inline bool beats(real value, real best) { return value > best || (value != value && best == best); }

// out (planes, H', W') of x (planes, H, W). Place is a byte, or int for windows of more than 256 pixels.
// with_relu pools max(x, 0).
template <class Place>
__device__ void max_pool_forward(const real* x, real* out, Place* argmax, index_t planes, index_t h, index_t w,
                                 index_t window_h, index_t window_w, index_t stride_y, index_t stride_x, index_t out_h,
                                 index_t out_w, bool with_relu) {
    GRID_STRIDE(i, planes * out_h * out_w) {
        index_t column, row;
        const index_t plane = divide(divide(i, out_w, column), out_h, row);
        const real* corner = x + (plane * h + row * stride_y) * w + column * stride_x;
        real best = with_relu ? relu(corner[0]) : corner[0];
        index_t place = 0;
        for (index_t y = 0; y < window_h; ++y)
            for (index_t xx = 0; xx < window_w; ++xx) {
                const real value = with_relu ? relu(corner[y * w + xx]) : corner[y * w + xx];
                if (beats(value, best)) best = value, place = y * window_w + xx;
            }
        out[i] = best;
        argmax[i] = (Place)place;
    }
}

// dx (planes, H, W): every pixel gathers from the windows that hold it, in row-major order. With out, the pooled
// values, a gradient passes only where they are positive: the gradient of a ReLU before the pooling.
template <class Place>
__device__ void max_pool_backward(const real* dout, const Place* argmax, const real* out, real* dx, index_t planes,
                                  index_t h, index_t w, index_t window_h, index_t window_w, index_t stride_y,
                                  index_t stride_x, index_t out_h, index_t out_w) {
    GRID_STRIDE(i, planes * h * w) {
        index_t column, row;
        const index_t plane = divide(divide(i, w, column), h, row);
        const index_t top = row < window_h ? 0 : (row - window_h) / stride_y + 1;
        const index_t left = column < window_w ? 0 : (column - window_w) / stride_x + 1;
        const index_t bottom = smaller(row / stride_y + 1, out_h), right = smaller(column / stride_x + 1, out_w);
        real sum = 0;
        for (index_t y = top; y < bottom; ++y)
            for (index_t x = left; x < right; ++x) {
                const index_t o = (plane * out_h + y) * out_w + x;
                const index_t place = (row - y * stride_y) * window_w + column - x * stride_x;
                if ((index_t)argmax[o] == place && (!out || out[o] > real(0))) sum += dout[o];
            }
        dx[i] = sum;
    }
}

#define MAX_POOL(suffix, Place)                                                                                       \
    extern "C" __global__ void KERNEL(max_pool_forward##suffix)(                                                      \
        const real* x, real* out, Place* argmax, index_t planes, index_t h, index_t w, index_t window_h,              \
        index_t window_w, index_t stride_y, index_t stride_x, index_t out_h, index_t out_w, index_t with_relu) {      \
        max_pool_forward(x, out, argmax, planes, h, w, window_h, window_w, stride_y, stride_x, out_h, out_w,          \
                         with_relu != 0);                                                                             \
    }                                                                                                                 \
    extern "C" __global__ void KERNEL(max_pool_backward##suffix)(                                                     \
        const real* dout, const Place* argmax, const real* out, real* dx, index_t planes, index_t h, index_t w,       \
        index_t window_h, index_t window_w, index_t stride_y, index_t stride_x, index_t out_h, index_t out_w) {       \
        max_pool_backward(dout, argmax, out, dx, planes, h, w, window_h, window_w, stride_y, stride_x, out_h, out_w); \
    }
MAX_POOL(, unsigned char)
MAX_POOL(_wide, int)
