// Sums over the samples and pixels of each channel of (N, C, P), in two kernels: parts, then their sum.
#include "reduce.cuh"

// Values j = 0 ... N*P - 1 of a channel, split into parts of `chunk`; blockIdx.y counts the parts. Two ways of walking:
// images (large P): a block has one channel, its threads neighbouring pixels.
// vectors (small P): a block has 32 channels, its threads in x neighbouring channels and in y samples.
template <class State, class Add>
__device__ void sum_channel_images(State* parts, index_t n, index_t c, index_t p, index_t chunk, const Add& add) {
    const index_t channel = (index_t)blockIdx.x, begin = (index_t)blockIdx.y * chunk;
    const index_t end = smaller(begin + chunk, n * p);
    State state = State::empty();
    for (index_t j = begin + (index_t)threadIdx.x; j < end; j += (index_t)blockDim.x) {
        index_t pixel;
        const index_t image = divide(j, p, pixel);
        add(state, (image * c + channel) * p + pixel, image, channel);
    }
    reduce_block(state);
    if (threadIdx.x == 0) parts[(index_t)blockIdx.y * c + channel] = state;
}

template <class State, class Add>
__device__ void sum_channel_vectors(State* parts, index_t n, index_t c, index_t p, index_t chunk, const Add& add) {
    constexpr int ROWS = 8;
    __shared__ State rows[ROWS][32];
    const index_t channel = (index_t)blockIdx.x * 32 + (index_t)threadIdx.x, begin = (index_t)blockIdx.y * chunk;
    const index_t end = smaller(begin + chunk, n * p);
    State state = State::empty();
    if (channel < c)
        for (index_t j = begin + (index_t)threadIdx.y; j < end; j += ROWS) {
            index_t pixel;
            const index_t image = divide(j, p, pixel);
            add(state, (image * c + channel) * p + pixel, image, channel);
        }
    rows[threadIdx.y][threadIdx.x] = state;
    __syncthreads();
    if (threadIdx.y == 0 && channel < c) {
        for (int row = 1; row < ROWS; ++row) state.add(rows[row][threadIdx.x]);
        parts[(index_t)blockIdx.y * c + channel] = state;
    }
}

// Thread per channel: the sum of its parts, in their order.
template <class State>
__device__ State sum_parts(const State* parts, index_t c, index_t channel, index_t count) {
    State state = State::empty();
    for (index_t part = 0; part < count; ++part) state.add(parts[part * c + channel]);
    return state;
}

// What the gradient of a normalisation sums for each channel: dout * x_hat and dout. The statistics belong to the
// channel (groups 0), or to the sample and group of channels.
struct AddProducts {
    const real *dout, *x, *mean, *var;
    index_t c, groups;
    real eps;
    __device__ void operator()(SumPair& sums, index_t i, index_t sample, index_t channel) const {
        const index_t s = groups ? sample * groups + channel / (c / groups) : channel;
        sums.first += dout[i] * ((x[i] - mean[s]) / sqrt(var[s] + eps));
        sums.second += dout[i];
    }
};

#define CHANNEL_PRODUCTS(operation)                                                                                   \
    extern "C" __global__ void KERNEL(operation##_sums_images)(const real* dout, const real* x, const real* mean,     \
                                                               const real* var, real* parts, index_t n, index_t c,    \
                                                               index_t p, index_t groups, index_t chunk, real eps) {  \
        const AddProducts add{dout, x, mean, var, c, groups, eps};                                                    \
        sum_channel_images(reinterpret_cast<SumPair*>(parts), n, c, p, chunk, add);                                   \
    }                                                                                                                 \
    extern "C" __global__ void KERNEL(operation##_sums_vectors)(const real* dout, const real* x, const real* mean,    \
                                                                const real* var, real* parts, index_t n, index_t c,   \
                                                                index_t p, index_t groups, index_t chunk, real eps) { \
        const AddProducts add{dout, x, mean, var, c, groups, eps};                                                    \
        sum_channel_vectors(reinterpret_cast<SumPair*>(parts), n, c, p, chunk, add);                                  \
    }                                                                                                                 \
    extern "C" __global__ void KERNEL(operation##_parameter_gradients)(const real* parts, real* dgamma, real* dbeta,  \
                                                                       index_t c, index_t count) {                    \
        GRID_STRIDE(channel, c) {                                                                                     \
            const SumPair sums = sum_parts(reinterpret_cast<const SumPair*>(parts), c, channel, count);               \
            dgamma[channel] = sums.first;                                                                             \
            dbeta[channel] = sums.second;                                                                             \
        }                                                                                                             \
    }
