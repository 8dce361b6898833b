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

// out = gamma (x - mean) / sqrt(var + eps) + beta, for training and test mode.
extern "C" __global__ void KERNEL(batchnorm_forward)(const real* x, const real* gamma, const real* beta,
                                                     const real* mean, const real* var, real* out, index_t n, index_t c,
                                                     index_t p, real eps) {
    GRID_STRIDE(i, n * c * p) {
        index_t rest;
        const index_t plane = divide(i, p, rest), channel = plane % c;
        out[i] = (x[i] - mean[channel]) * (gamma[channel] / sqrt(var[channel] + eps)) + beta[channel];
    }
}

CHANNEL_PRODUCTS(batchnorm)

// dx = gamma / std * (dout - (dbeta + x_hat * dgamma) / (N P))
extern "C" __global__ void KERNEL(batchnorm_input_gradient)(const real* dout, const real* x, const real* gamma,
                                                            const real* mean, const real* var, const real* dgamma,
                                                            const real* dbeta, real* dx, index_t n, index_t c,
                                                            index_t p, real eps) {
    const real count = (real)n * (real)p;
    GRID_STRIDE(i, n * c * p) {
        index_t rest;
        const index_t plane = divide(i, p, rest), channel = plane % c;
        const real inverse = real(1) / sqrt(var[channel] + eps);
        const real x_hat = (x[i] - mean[channel]) * inverse;
        dx[i] = gamma[channel] * inverse * (dout[i] - (dbeta[channel] + x_hat * dgamma[channel]) / count);
    }
}
