// Max pooling of any window, stride and rest, with the place of each maximum; and its gradient as a gather.
#include "geometry.cuh"

// NaN is a maximum, as in NumPy, and the first maximum in row-major order counts.
__device__ inline bool beats(real value, real best) { return value > best || (value != value && best == best); }

// out (planes, H', W') of x (planes, H, W). Place is a byte, or int for windows of more than 256 pixels.
// with_relu pools max(x, 0).
template <class Place>
__device__ void max_pool_forward(const real* x, real* out, Place* argmax, bool with_relu, const PoolGeometry& g) {
    GRID_STRIDE(i, g.planes * g.plane()) {
        index_t column, row;
        const index_t plane = divide(divide(i, g.out_w, column), g.out_h, row);
        const real* corner = x + (plane * g.h + row * g.stride_y) * g.w + column * g.stride_x;
        real best = with_relu ? relu(corner[0]) : corner[0];
        index_t place = 0;
        for (index_t y = 0; y < g.window_h; ++y)
            for (index_t xx = 0; xx < g.window_w; ++xx) {
                const real value = with_relu ? relu(corner[y * g.w + xx]) : corner[y * g.w + xx];
                if (beats(value, best)) best = value, place = y * g.window_w + xx;
            }
        out[i] = best;
        argmax[i] = (Place)place;
    }
}

// dx (planes, H, W): every pixel gathers from the windows that hold it, in row-major order. With out, the pooled
// values, a gradient passes only where they are positive: the gradient of a ReLU before the pooling.
template <class Place>
__device__ void max_pool_backward(const real* dout, const Place* argmax, const real* out, real* dx,
                                  const PoolGeometry& g) {
    GRID_STRIDE(i, g.planes * g.h * g.w) {
        index_t column, row;
        const index_t plane = divide(divide(i, g.w, column), g.h, row);
        const index_t top = row < g.window_h ? 0 : (row - g.window_h) / g.stride_y + 1;
        const index_t left = column < g.window_w ? 0 : (column - g.window_w) / g.stride_x + 1;
        const index_t bottom = smaller(row / g.stride_y + 1, g.out_h);
        const index_t right = smaller(column / g.stride_x + 1, g.out_w);
        real sum = 0;
        for (index_t y = top; y < bottom; ++y)
            for (index_t x = left; x < right; ++x) {
                const index_t o = (plane * g.out_h + y) * g.out_w + x;
                const index_t place = (row - y * g.stride_y) * g.window_w + column - x * g.stride_x;
                if ((index_t)argmax[o] == place && (!out || out[o] > real(0))) sum += dout[o];
            }
        dx[i] = sum;
    }
}

#define MAX_POOL(places, Place)                                                                                      \
    extern "C" __global__ void KERNEL(max_pool_forward_##places)(const real* x, real* out, Place* argmax,            \
                                                                 index_t with_relu, const PoolGeometry g) {          \
        max_pool_forward(x, out, argmax, with_relu != 0, g);                                                         \
    }                                                                                                                \
    extern "C" __global__ void KERNEL(max_pool_backward_##places)(const real* dout, const Place* argmax,             \
                                                                  const real* out, real* dx, const PoolGeometry g) { \
        max_pool_backward(dout, argmax, out, dx, g);                                                                 \
    }
MAX_POOL(bytes, unsigned char)
MAX_POOL(ints, int)
