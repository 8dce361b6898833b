// Batch normalisation of (N, C, P), statistics over N and P (Ioffe and Szegedy, 2015).
#include "channels.cuh"

struct AddMoments {
    const real* x;
    __device__ void operator()(Moments& moments, index_t i, index_t, index_t) const { moments.add(x[i]); }
};

// parts (count, C, 3); blockIdx: x channel, y part.
extern "C" __global__ void KERNEL(batchnorm_moments_images)(const real* x, real* parts, index_t n, index_t c, index_t p,
                                                            index_t chunk) {
    sum_channel_images(reinterpret_cast<Moments*>(parts), n, c, p, chunk, AddMoments{x});
}
extern "C" __global__ void KERNEL(batchnorm_moments_vectors)(const real* x, real* parts, index_t n, index_t c,
                                                             index_t p, index_t chunk) {
    sum_channel_vectors(reinterpret_cast<Moments*>(parts), n, c, p, chunk, AddMoments{x});
}

extern "C" __global__ void KERNEL(batchnorm_statistics)(const real* parts, real* mean, real* var, index_t c,
                                                        index_t count) {
    GRID_STRIDE(channel, c) {
        const Moments all = sum_parts(reinterpret_cast<const Moments*>(parts), c, channel, count);
        mean[channel] = all.mean;
        var[channel] = all.squares / all.count;
    }
}

// Runs a map over every value of (N, C, P); map.at(channel) finds what is the same for a channel. Images: a block has
// a plane, so that is done once for many values. Vectors: neighbouring threads have neighbouring values of any channel.
template <class Map>
__device__ void map_images(index_t planes, index_t c, index_t p, const Map& map) {
    for (index_t plane = (index_t)blockIdx.x; plane < planes; plane += (index_t)gridDim.x) {
        const auto channel = map.at(plane % c);
        for (index_t j = (index_t)threadIdx.x; j < p; j += (index_t)blockDim.x) channel(plane * p + j);
    }
}

template <class Map>
__device__ void map_vectors(index_t planes, index_t c, index_t p, const Map& map) {
    GRID_STRIDE(i, planes * p) {
        index_t rest;
        map.at(divide(i, p, rest) % c)(i);
    }
}

// out = gamma (x - mean) / sqrt(var + eps) + beta, for training and test mode.
struct Normalise {
    const real *x, *gamma, *beta, *mean, *var;
    real* out;
    real eps;
    struct Channel {
        const real* x;
        real* out;
        real mean, scale, shift;
        __device__ void operator()(index_t i) const { out[i] = (x[i] - mean) * scale + shift; }
    };
    __device__ Channel at(index_t c) const { return {x, out, mean[c], gamma[c] / sqrt(var[c] + eps), beta[c]}; }
};

#define BATCHNORM_FORWARD(walk)                                                                                     \
    extern "C" __global__ void KERNEL(batchnorm_forward_##walk)(const real* x, const real* gamma, const real* beta, \
                                                                const real* mean, const real* var, real* out,       \
                                                                index_t n, index_t c, index_t p, real eps) {        \
        map_##walk(n * c, c, p, Normalise{x, gamma, beta, mean, var, out, eps});                                    \
    }
BATCHNORM_FORWARD(images)
BATCHNORM_FORWARD(vectors)

CHANNEL_PRODUCTS(batchnorm)

// dx = gamma / std * (dout - dbeta / (N P) - x_hat * dgamma / (N P))
struct InputGradient {
    const real *dout, *x, *gamma, *mean, *var, *dgamma, *dbeta;
    real* dx;
    real eps, count;
    struct Channel {
        const real *dout, *x;
        real* dx;
        real mean, inverse, scale, average, projection;
        __device__ void operator()(index_t i) const {
            dx[i] = scale * (dout[i] - average - (x[i] - mean) * inverse * projection);
        }
    };
    __device__ Channel at(index_t c) const {
        const real inverse = real(1) / sqrt(var[c] + eps);
        return {dout, x, dx, mean[c], inverse, gamma[c] * inverse, dbeta[c] / count, dgamma[c] / count};
    }
};

#define BATCHNORM_INPUT_GRADIENT(walk)                                                                             \
    extern "C" __global__ void KERNEL(batchnorm_input_gradient_##walk)(                                            \
        const real* dout, const real* x, const real* gamma, const real* mean, const real* var, const real* dgamma, \
        const real* dbeta, real* dx, index_t n, index_t c, index_t p, real eps) {                                  \
        const real count = (real)n * (real)p;                                                                      \
        map_##walk(n * c, c, p, InputGradient{dout, x, gamma, mean, var, dgamma, dbeta, dx, eps, count});          \
    }
BATCHNORM_INPUT_GRADIENT(images)
BATCHNORM_INPUT_GRADIENT(vectors)
