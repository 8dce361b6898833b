// The kernels for one instruction set: compiled once for each, with its flags and GCONV_LEVEL its name.
#include "kernels.hpp"

#include "batchnorm.hpp"
#include "convolution.hpp"
#include "elementwise.hpp"
#include "im2col.hpp"
#include "losses.hpp"
#include "matrix_product.hpp"
#include "max_pool.hpp"
#include "update_rules.hpp"

namespace gconv {
namespace GCONV_LEVEL {

template <typename T, typename Index>
constexpr PoolKernels<T, Index> pool_kernels() {
    return {max_pool_forward<T, Index>, max_pool_backward<T, Index>, conv_relu_pool_forward<T, Index>,
            conv_relu_pool_filter_gradient<T, Index>};
}

template <typename T>
constexpr Kernels<T> table() {
    return {im2col<T>,
            col2im<T>,
            conv_forward<T>,
            conv_input_gradient<T>,
            conv_filter_gradient<T>,
            pool_kernels<T, uint8_t>(),
            pool_kernels<T, int32_t>(),
            has_pooled_filter_gradient<T>,
            matrix_product<T>,
            relu_forward<T>,
            relu_backward<T>,
            batchnorm_train<T>,
            batchnorm_test<T>,
            batchnorm_backward<T>,
            update_kernel<T>,
            l2_penalty<T>};
}

static constexpr Kernels<float> float32 = table<float>();
static constexpr Kernels<double> float64 = table<double>();
static constexpr LossKernels losses = {softmax_loss, svm_loss};

#define GCONV_TEXT(name) #name
#define GCONV_NAME(name) GCONV_TEXT(name)
extern const Level level;
const Level level = {GCONV_NAME(GCONV_LEVEL), &float32, &float64, &losses};

}  // namespace GCONV_LEVEL
}  // namespace gconv
