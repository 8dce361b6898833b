// The compiled kernels as a table of functions, one table for each instruction set, and the choice among them.
//
// Every function that returns a bool returns false, with nothing done, where there is no memory to work in. Arrays are
// C-contiguous; `threads` is the most that a call may use.
#pragma once
#include <cstddef>
#include <cstdint>

namespace gconv {

// out(f, y, x) = sum over (c, i, j) of filter(f, c, i, j) * image(c, y * stride_y + i - pad_y, x * stride_x + j -
// pad_x), where the image is 0 outside. A pad may be negative: the image is then cut.
struct Correlation {
    ptrdiff_t channels, height, width;
    ptrdiff_t field_height, field_width;
    ptrdiff_t stride_y, stride_x;
    ptrdiff_t pad_y, pad_x;
    ptrdiff_t out_height, out_width;

    ptrdiff_t depth() const { return channels * field_height * field_width; }
    ptrdiff_t pixels() const { return out_height * out_width; }
};

// Max pooling of planes of height x width.
struct Pool {
    ptrdiff_t height, width;
    ptrdiff_t pool_height, pool_width;
    ptrdiff_t stride_y, stride_x;
    ptrdiff_t out_height, out_width;

    ptrdiff_t window() const { return pool_height * pool_width; }
    ptrdiff_t pixels() const { return out_height * out_width; }
};

// x (N, C, P) of batch normalisation.
struct ChannelShape {
    ptrdiff_t images, channels, pixels;

    ptrdiff_t count() const { return images * pixels; }
    ptrdiff_t pitch() const { return channels * pixels; }
};

// Element (i, j) is data[i * row + j * column]; one of the two steps is 1.
template <typename T>
struct Matrix {
    const T* data;
    ptrdiff_t row, column;
};

constexpr int MAX_STATES = 2, MAX_SCALARS = 4, MAX_CONSTANTS = 8;

// A parameter in an update: `out` and new states are written, and may be `w` and the states.
template <typename T>
struct UpdateArrays {
    const T *w, *dw, *states[MAX_STATES];
    T *out, *new_states[MAX_STATES];
};

// What changes from step to step, and what does not.
template <typename T>
struct UpdateNumbers {
    T scalars[MAX_SCALARS], constants[MAX_CONSTANTS];
};

template <typename T>
struct UpdateKernel {
    const char* name;
    int states;
    void (*run)(ptrdiff_t count, const UpdateArrays<T>&, const UpdateNumbers<T>&, int threads);
};

// The kernels whose places of maxima are of one type.
template <typename T, typename Index>
struct PoolKernels {
    void (*forward)(const Pool&, ptrdiff_t planes, const T* x, T* out, Index* places, int threads);
    // out: of a ReLU before the pooling, or null.
    void (*backward)(const Pool&, ptrdiff_t planes, const T* dout, const T* out, const Index* places, T* dx,
                     int threads);
    bool (*conv_relu_forward)(const Correlation&, const Pool&, ptrdiff_t images, ptrdiff_t filters, const T* x,
                              const T* w, const T* b, T* out, Index* places, int threads);
    bool (*conv_relu_filter_gradient)(const Correlation&, const Pool&, ptrdiff_t images, ptrdiff_t filters,
                                      const T* dout, const T* out, const Index* places, const T* x, T* dw, T* db,
                                      int threads);
};

template <typename T>
struct Kernels {
    void (*im2col)(const Correlation&, ptrdiff_t images, const T* x, T* cols, int threads);
    void (*col2im)(const Correlation&, ptrdiff_t images, const T* cols, T* x, int threads);
    bool (*conv_forward)(const Correlation&, ptrdiff_t images, ptrdiff_t filters, const T* x, const T* w, const T* b,
                         bool relu, T* out, int threads);
    bool (*conv_input_gradient)(const Correlation&, ptrdiff_t images, ptrdiff_t filters, const T* dout, const T* w,
                                T* dx, int threads);
    bool (*conv_filter_gradient)(const Correlation&, ptrdiff_t images, ptrdiff_t filters, const T* dout, const T* x,
                                 T* dw, T* db, int threads);
    PoolKernels<T, uint8_t> pool_bytes;
    PoolKernels<T, int32_t> pool_ints;
    // Whether conv_relu_filter_gradient can be used, and is faster than the gradient of the whole convolution.
    bool (*has_pooled_filter_gradient)(const Correlation&, const Pool&, ptrdiff_t images, ptrdiff_t filters);
    bool (*matrix_product)(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const Matrix<T>& a, const Matrix<T>& b,
                           const T* bias, bool relu, T* out, int threads);
    void (*relu_forward)(ptrdiff_t count, const T* x, T* out, int threads);
    void (*relu_backward)(ptrdiff_t count, const T* dout, const T* x, T* dx, int threads);
    void (*batchnorm_train)(const ChannelShape&, const T* x, const T* gamma, const T* beta, double eps, bool relu,
                            T* out, T* mean, T* var, int threads);
    void (*batchnorm_test)(const ChannelShape&, const T* x, const T* gamma, const T* beta, const T* mean, const T* var,
                           double eps, bool relu, T* out, int threads);
    // out: of a ReLU after the normalisation, or null.
    void (*batchnorm_backward)(const ChannelShape&, const T* dout, const T* out, const T* x, const T* gamma,
                               const T* mean, const T* var, double eps, T* dx, T* dgamma, T* dbeta, int threads);
    // Of the update rule's name; null where there is none.
    const UpdateKernel<T>* (*update_kernel)(const char* name);
    double (*l2_penalty)(ptrdiff_t count, const T* w, T reg, T* dw, int threads);
};

// In float32 alone: in float64 NumPy's expressions round as the course's figures need it.
struct LossKernels {
    double (*softmax)(ptrdiff_t samples, ptrdiff_t classes, const float* x, const int64_t* y, float* dx);
    double (*svm)(ptrdiff_t samples, ptrdiff_t classes, const float* x, const int64_t* y, float* dx);
};

struct Level {
    const char* name;
    const Kernels<float>* float32;
    const Kernels<double>* float64;
    const LossKernels* losses;
};

// The instruction sets in this build that the processor has, the best one first.
int usable_levels(const Level** levels);

// The tables in use, at first the best ones.
template <typename T>
const Kernels<T>& kernels_for(const T*);
template <>
const Kernels<float>& kernels_for(const float*);
template <>
const Kernels<double>& kernels_for(const double*);
const LossKernels& loss_kernels();

const char* level_name();
void use_level(const Level& level);

}  // namespace gconv
