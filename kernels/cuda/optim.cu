// Update rules over all parameters of a model in one launch.
//
// What changes from step to step (learning rate, bias corrections) comes by value, or, for steps that are queued or
// captured once and replayed, from table[*row][part] on the device. There `stopped` is set once a loss was not finite,
// and nothing is written any more.
#include "tensors.cuh"

// Of so many threads so many blocks have room on a multiprocessor: 40 registers a thread in float32, 64 in float64.
constexpr int THREADS = 256, BLOCKS = sizeof(real) == 4 ? 6 : 4;

struct Control {
    const double* table;  // (steps, parts, 4), or null
    const long long* row;
    const long long* stopped;
    long long part, parts;
    double scalars[4];    // where there is no table
    double constants[8];  // what does not change
};

struct Scalars {
    real rate, second, third;
};

__device__ inline bool goes_on(const Control& control) { return !control.stopped || *control.stopped == 0; }

__device__ inline Scalars scalars(const Control& control) {
    const double* row =
        control.table ? control.table + 4 * (*control.row * control.parts + control.part) : control.scalars;
    return Scalars{(real)row[0], (real)row[1], (real)row[2]};
}

extern "C" __global__ void KERNEL(sgd)(const __grid_constant__ Tensors t, const __grid_constant__ Control control) {
    if (!goes_on(control)) return;
    const Scalars s = scalars(control);
    for_each_value(t.sizes,
                   [&](int item, long long i) { t.out[item][i] = t.w[item][i] - s.rate * t.gradient[item][i]; });
}

// constants: momentum, and 1 for Nesterov's look-ahead or 0.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    KERNEL(momentum)(const __grid_constant__ Tensors t, const __grid_constant__ Control control) {
    if (!goes_on(control)) return;
    const Scalars s = scalars(control);
    const real momentum = (real)control.constants[0];
    const bool nesterov = control.constants[1] != 0;
    for_each_value(t.sizes, [&](int item, long long i) {
        const real step = s.rate * t.gradient[item][i];
        const real velocity = momentum * t.state[0][item][i] - step;
        t.new_state[0][item][i] = velocity;
        t.out[item][i] = t.w[item][i] + (nesterov ? momentum * velocity - step : velocity);
    });
}

// constants: decay, 1 - decay, epsilon.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    KERNEL(rmsprop)(const __grid_constant__ Tensors t, const __grid_constant__ Control control) {
    if (!goes_on(control)) return;
    const Scalars s = scalars(control);
    const real decay = (real)control.constants[0], rest = (real)control.constants[1];
    const real epsilon = (real)control.constants[2];
    for_each_value(t.sizes, [&](int item, long long i) {
        const real g = t.gradient[item][i];
        const real cache = decay * t.state[0][item][i] + rest * (g * g);
        t.new_state[0][item][i] = cache;
        t.out[item][i] = t.w[item][i] - s.rate * g / (sqrt(cache) + epsilon);
    });
}

// rate: learning_rate / (1 - beta1^t); second: 1 / (1 - beta2^t); third: learning_rate * weight_decay. constants:
// beta1, 1 - beta1, beta2, 1 - beta2, epsilon.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    KERNEL(adam)(const __grid_constant__ Tensors t, const __grid_constant__ Control control) {
    if (!goes_on(control)) return;
    const Scalars s = scalars(control);
    const real beta1 = (real)control.constants[0], rest1 = (real)control.constants[1];
    const real beta2 = (real)control.constants[2], rest2 = (real)control.constants[3];
    const real epsilon = (real)control.constants[4];
    for_each_value(t.sizes, [&](int item, long long i) {
        const real g = t.gradient[item][i], w = t.w[item][i];
        const real m = beta1 * t.state[0][item][i] + rest1 * g;
        const real v = beta2 * t.state[1][item][i] + rest2 * (g * g);
        t.new_state[0][item][i] = m;
        t.new_state[1][item][i] = v;
        t.out[item][i] = w - (s.rate * m / (sqrt(v * s.second) + epsilon) + s.third * w);
    });
}
