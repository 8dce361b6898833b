// Update rules over all parameters of a model in one launch.
//
// What changes from step to step (learning rate, bias corrections) comes by value, or, in a step that is captured
// once and replayed, from row *step of a table on the device. In such a run `stopped` is set once a loss was not
// finite, and no parameter changes any more.
#include "tensors.cuh"

struct Control {
    const double* table;  // (steps, 4), or null
    const long long* step;
    const long long* stopped;
    double values[4];
};

struct Scalars {
    real rate, second, third;
};

__device__ inline bool goes_on(const Control& control) { return !control.stopped || *control.stopped == 0; }

__device__ inline Scalars scalars(const Control& control) {
    const double* row = control.table ? control.table + 4 * *control.step : control.values;
    return Scalars{(real)row[0], (real)row[1], (real)row[2]};
}

extern "C" __global__ void KERNEL(sgd)(const __grid_constant__ Tensors t, const __grid_constant__ Control control) {
    if (!goes_on(control)) return;
    const Scalars s = scalars(control);
    for_each_value(t, [&](int item, long long i) { t.out[item][i] = t.w[item][i] - s.rate * t.gradient[item][i]; });
}

extern "C" __global__ void KERNEL(momentum)(const __grid_constant__ Tensors t, const __grid_constant__ Control control,
                                            real momentum, index_t nesterov) {
    if (!goes_on(control)) return;
    const Scalars s = scalars(control);
    for_each_value(t, [&](int item, long long i) {
        const real step = s.rate * t.gradient[item][i];
        const real velocity = momentum * t.first[item][i] - step;
        t.first[item][i] = velocity;
        t.out[item][i] = t.w[item][i] + (nesterov ? momentum * velocity - step : velocity);
    });
}

extern "C" __global__ void KERNEL(rmsprop)(const __grid_constant__ Tensors t, const __grid_constant__ Control control,
                                           real decay, real keep, real epsilon) {
    if (!goes_on(control)) return;
    const Scalars s = scalars(control);
    for_each_value(t, [&](int item, long long i) {
        const real g = t.gradient[item][i];
        const real cache = decay * t.first[item][i] + keep * (g * g);
        t.first[item][i] = cache;
        t.out[item][i] = t.w[item][i] - s.rate * g / (sqrt(cache) + epsilon);
    });
}

// rate: learning_rate / (1 - beta1^t); second: 1 / (1 - beta2^t); third: learning_rate * weight_decay.
extern "C" __global__ void KERNEL(adam)(const __grid_constant__ Tensors t, const __grid_constant__ Control control,
                                        real beta1, real keep1, real beta2, real keep2, real epsilon) {
    if (!goes_on(control)) return;
    const Scalars s = scalars(control);
    for_each_value(t, [&](int item, long long i) {
        const real g = t.gradient[item][i], w = t.w[item][i];
        const real m = beta1 * t.first[item][i] + keep1 * g;
        const real v = beta2 * t.second[item][i] + keep2 * (g * g);
        t.first[item][i] = m;
        t.second[item][i] = v;
        t.out[item][i] = w - (s.rate * m / (sqrt(v * s.second) + epsilon) + s.third * w);
    });
}
