// Affine layers with bias and ReLU, and their gradients.
#include "gemm.cuh"

struct AffineOutput {
    Partial partial;
    real* out;         // (rows, columns)
    const real* bias;  // (columns,), or null
    index_t rows, columns;
    bool with_relu;
    __device__ void put(index_t m, index_t n, real value) const {
        if (bias) value += bias[n];
        out[m * columns + n] = with_relu ? relu(value) : value;
    }
    __device__ void put4(index_t m, index_t n, const real (&four)[4]) const {
        if (partial.put4(m, n, four)) return;
        for (int c = 0; c < 4; ++c)
            if (m < rows && n + c < columns) put(m, n + c, four[c]);
    }
};

// Samples with a row of ones below, which makes the last row of the product the gradient of the bias.
struct SamplesAndOnes {
    typedef index_t Place;
    typedef index_t Step;
    static constexpr bool K_IS_FAST = false;
    const real* x;  // (N, D)
    index_t d;
    __device__ static index_t no_step() { return NOWHERE; }
    __device__ index_t place(index_t i) const { return i <= d ? i : NOWHERE; }
    __device__ index_t step(index_t sample) const { return sample * d; }
    __device__ real load(index_t place, index_t step) const {
        const index_t offset = place + step;
        return offset < 0 ? real(0) : place == d ? real(1) : x[offset];
    }
};

// out (N, M) = x (N, D) w (D, M) + b; relu is 0 or 1. blockIdx: x tiles, y splits of D.
#define AFFINE_FORWARD(name, T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                             \
        KERNEL(name)(const real* x, const real* w, const real* b, real* out, real* partial, index_t n, index_t d,     \
                     index_t m, index_t chunk, index_t with_relu) {                                                   \
        gemm<T>(RowMajor(x, n, d), ColumnMajor(w, m, m), AffineOutput{{partial, n, m}, out, b, n, m, with_relu != 0}, \
                m, split_begin(chunk), split_end(chunk, d));                                                          \
    }
AFFINE_FORWARD(affine_forward_strip, StripTile)
AFFINE_FORWARD(affine_forward_square, SquareTile)
AFFINE_FORWARD(affine_forward_large, LargeTile)

extern "C" __global__ void KERNEL(affine_forward_add)(const real* partial, const real* b, real* out, index_t splits,
                                                      index_t n, index_t m, index_t with_relu) {
    add_splits(partial, splits, n, m, AffineOutput{Partial::none(), out, b, n, m, with_relu != 0});
}

// dx (N, D) = dout (N, M) w^T; blockIdx: x tiles, y splits of M.
#define AFFINE_INPUT_GRADIENT(name, T)                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(name)(                                              \
        const real* dout, const real* w, real* dx, real* partial, index_t n, index_t d, index_t m, index_t chunk) {  \
        gemm<T>(RowMajor(dout, n, m), RowMajor(w, d, m), AffineOutput{{partial, n, d}, dx, nullptr, n, d, false}, d, \
                split_begin(chunk), split_end(chunk, m));                                                            \
    }
AFFINE_INPUT_GRADIENT(affine_input_gradient_strip, StripTile)
AFFINE_INPUT_GRADIENT(affine_input_gradient_square, SquareTile)
AFFINE_INPUT_GRADIENT(affine_input_gradient_large, LargeTile)

// dw (D, M) = x^T dout, and below it, in row D, db; blockIdx: x tiles, y splits of N.
#define AFFINE_WEIGHT_GRADIENT(name, T)                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(name)(                                             \
        const real* dout, const real* x, real* dw, real* partial, index_t n, index_t d, index_t m, index_t chunk) { \
        gemm<T>(SamplesAndOnes{x, d}, ColumnMajor(dout, m, m),                                                      \
                AffineOutput{{partial, d + 1, m}, dw, nullptr, d + 1, m, false}, m, split_begin(chunk),             \
                split_end(chunk, n));                                                                               \
    }
AFFINE_WEIGHT_GRADIENT(affine_weight_gradient_strip, StripTile)
AFFINE_WEIGHT_GRADIENT(affine_weight_gradient_square, SquareTile)
AFFINE_WEIGHT_GRADIENT(affine_weight_gradient_large, LargeTile)

// The sum of split products, for both gradients: out (rows, columns).
extern "C" __global__ void KERNEL(affine_gradient_add)(const real* partial, real* out, index_t splits, index_t rows,
                                                       index_t columns) {
    add_splits(partial, splits, rows, columns, AffineOutput{Partial::none(), out, nullptr, rows, columns, false});
}
