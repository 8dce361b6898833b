// Columns of convolution windows, and their sum back into images.
#include "geometry.cuh"

// cols (C*HH*WW, N*H'*W') of x (N, C, H, W): rows (c, hh, ww), columns (n, y, x).
extern "C" __global__ void KERNEL(im2col)(const real* x, real* cols, const ConvGeometry g) {
    const index_t pixels = g.pixels();
    GRID_STRIDE(i, g.taps() * pixels) {
        index_t p;
        const index_t k = divide(i, pixels, p);
        cols[i] = value_at(x, g.h, g.w, window_of(g, p), tap_of(g, k));
    }
}

// x (N, C, H, W) from cols, the adjoint: every pixel gathers the taps that read it, in the order (hh, ww).
extern "C" __global__ void KERNEL(col2im)(const real* cols, real* x, const ConvGeometry g) {
    const index_t pixels = g.pixels();
    GRID_STRIDE(i, g.n * g.c * g.h * g.w) {
        index_t channel, row, column;
        const index_t image = divide(divide(divide(i, g.w, column), g.h, row), g.c, channel);
        real sum = 0;
        for (index_t tap_row = 0; tap_row < g.hh; ++tap_row) {
            const index_t from_top = row + g.pad_y - tap_row;
            if (from_top < 0) break;
            index_t rest;
            const index_t y = divide(from_top, g.stride_y, rest);
            if (rest || y >= g.out_h) continue;
            for (index_t tap_column = 0; tap_column < g.ww; ++tap_column) {
                const index_t from_left = column + g.pad_x - tap_column;
                if (from_left < 0) break;
                const index_t xx = divide(from_left, g.stride_x, rest);
                if (rest || xx >= g.out_w) continue;
                const index_t k = (channel * g.hh + tap_row) * g.ww + tap_column;
                sum += cols[k * pixels + (image * g.out_h + y) * g.out_w + xx];
            }
        }
        x[i] = sum;
    }
}
