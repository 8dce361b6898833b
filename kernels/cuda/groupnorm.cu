// Group normalisation of (N, C, P), statistics over a sample's group of channels (Wu and He, 2018); layer
// normalisation (Ba, Kiros and Hinton, 2016) is the one with a single group.
#include "channels.cuh"

// A block has a row: one group of one sample, c / groups * p values that lie together.
extern "C" __global__ void KERNEL(groupnorm_forward)(const real* x, const real* gamma, const real* beta, real* out,
                                                     real* mean, real* var, index_t n, index_t c, index_t p,
                                                     index_t groups, real eps) {
    __shared__ real shared_mean, shared_var;
    const index_t per_group = c / groups, size = per_group * p;
    for (index_t row = (index_t)blockIdx.x; row < n * groups; row += (index_t)gridDim.x) {
        const index_t begin = row * size, channel0 = row % groups * per_group;
        Moments moments = Moments::empty();
        for (index_t j = (index_t)threadIdx.x; j < size; j += (index_t)blockDim.x) moments.add(x[begin + j]);
        reduce_block(moments);
        if (threadIdx.x == 0) {
            shared_mean = mean[row] = moments.mean;
            shared_var = var[row] = moments.squares / moments.count;
        }
        __syncthreads();
        const real centre = shared_mean, inverse = real(1) / sqrt(shared_var + eps);
        for (index_t j = (index_t)threadIdx.x; j < size; j += (index_t)blockDim.x) {
            const index_t channel = channel0 + j / p;
            out[begin + j] = (x[begin + j] - centre) * inverse * gamma[channel] + beta[channel];
        }
    }
}

CHANNEL_PRODUCTS(groupnorm)

// dx = (dhat - mean(dhat) - x_hat * mean(dhat * x_hat)) / std with dhat = dout * gamma, means over the row.
extern "C" __global__ void KERNEL(groupnorm_input_gradient)(const real* dout, const real* x, const real* gamma,
                                                            const real* mean, const real* var, real* dx, index_t n,
                                                            index_t c, index_t p, index_t groups, real eps) {
    __shared__ real shared_first, shared_second;
    const index_t per_group = c / groups, size = per_group * p;
    for (index_t row = (index_t)blockIdx.x; row < n * groups; row += (index_t)gridDim.x) {
        const index_t begin = row * size, channel0 = row % groups * per_group;
        const real centre = mean[row], inverse = real(1) / sqrt(var[row] + eps);
        SumPair sums = SumPair::empty();
        for (index_t j = (index_t)threadIdx.x; j < size; j += (index_t)blockDim.x) {
            const real dhat = dout[begin + j] * gamma[channel0 + j / p];
            sums.first += dhat * ((x[begin + j] - centre) * inverse);
            sums.second += dhat;
        }
        reduce_block(sums);
        if (threadIdx.x == 0) {
            shared_first = sums.first / (real)size;
            shared_second = sums.second / (real)size;
        }
        __syncthreads();
        const real projection = shared_first, average = shared_second;
        for (index_t j = (index_t)threadIdx.x; j < size; j += (index_t)blockDim.x) {
            const real dhat = dout[begin + j] * gamma[channel0 + j / p];
            const real x_hat = (x[begin + j] - centre) * inverse;
            dx[begin + j] = inverse * (dhat - average - x_hat * projection);
        }
    }
}
