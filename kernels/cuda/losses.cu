// Softmax and SVM loss with their gradients; a second kernel adds up the samples' losses.
#include "reduce.cuh"

struct Largest {
    real value;
    __device__ static Largest empty() { return Largest{-infinity()}; }
    __device__ void add(const Largest& other) {
        // NaN wins, so that a NaN score reaches the loss.
        if (other.value > value || other.value != other.value) value = other.value;
    }
    __device__ Largest from_lane(int offset) const { return Largest{__shfl_down_sync(WHOLE_WARP, value, offset)}; }
};

// Who works on a row: a thread, where classes are few and its values stay in the first-level cache, or a block.
struct OneThread {
    __device__ static index_t first_row() { return first_index(); }
    __device__ static index_t row_step() { return index_step(); }
    __device__ static index_t first_class() { return 0; }
    __device__ static index_t class_step() { return 1; }
    __device__ static bool leads() { return true; }
    template <class State>
    __device__ static State all(const State& mine) {
        return mine;
    }
};

struct WholeBlock {
    __device__ static index_t first_row() { return (index_t)blockIdx.x; }
    __device__ static index_t row_step() { return (index_t)gridDim.x; }
    __device__ static index_t first_class() { return (index_t)threadIdx.x; }
    __device__ static index_t class_step() { return (index_t)blockDim.x; }
    __device__ static bool leads() { return threadIdx.x == 0; }
    template <class State>
    __device__ static State all(State mine) {
        __shared__ State everybody;
        reduce_block(mine);
        if (leads()) everybody = mine;
        __syncthreads();
        return everybody;
    }
};

// losses (N,) and dx (N, C) of scores x and labels y. A label outside [0, C) makes both NaN: labels on a device are
// not looked at beforehand, and a wrong number must not look like a right one.
template <class Group>
__device__ void softmax_loss(const real* x, const long long* y, real* losses, real* dx, index_t n, index_t c) {
    for (index_t row = Group::first_row(); row < n; row += Group::row_step()) {
        const real* scores = x + row * c;
        const long long label = y[row];
        const bool known = label >= 0 && label < c;
        Largest largest = Largest::empty();
        for (index_t k = Group::first_class(); k < c; k += Group::class_step()) largest.add(Largest{scores[k]});
        const real top = Group::all(largest).value;
        Sum total = Sum::empty();
        for (index_t k = Group::first_class(); k < c; k += Group::class_step()) total.value += exp(scores[k] - top);
        const real denominator = Group::all(total).value;
        // log(total) - shifted, not -log(probability): a probability may underflow to 0.
        if (Group::leads()) losses[row] = known ? log(denominator) - (scores[label] - top) : not_a_number();
        for (index_t k = Group::first_class(); k < c; k += Group::class_step()) {
            const real probability = exp(scores[k] - top) / denominator;
            dx[row * c + k] = known ? (probability - (k == label ? real(1) : real(0))) / (real)n : not_a_number();
        }
    }
}

template <class Group>
__device__ void svm_loss(const real* x, const long long* y, real* losses, real* dx, index_t n, index_t c) {
    for (index_t row = Group::first_row(); row < n; row += Group::row_step()) {
        const real* scores = x + row * c;
        const long long label = y[row];
        const bool known = label >= 0 && label < c;
        const real right = known ? scores[label] : not_a_number();
        SumPair sums = SumPair::empty();  // hinge losses, and how many margins are missed
        for (index_t k = Group::first_class(); k < c; k += Group::class_step()) {
            const real margin = scores[k] - right + real(1);
            if (k != label && !(margin <= real(0))) {
                sums.first += margin;
                if (margin > real(0)) sums.second += real(1);
            }
        }
        sums = Group::all(sums);
        if (Group::leads()) losses[row] = sums.first;
        for (index_t k = Group::first_class(); k < c; k += Group::class_step()) {
            const real margin = scores[k] - right + real(1);
            const real gradient = k == label ? -sums.second : margin > real(0) ? real(1) : real(0);
            dx[row * c + k] = known ? gradient / (real)n : not_a_number();
        }
    }
}

#define LOSS(operation)                                                                                            \
    extern "C" __global__ void KERNEL(operation##_few)(const real* x, const long long* y, real* losses, real* dx,  \
                                                       index_t n, index_t c) {                                     \
        operation<OneThread>(x, y, losses, dx, n, c);                                                              \
    }                                                                                                              \
    extern "C" __global__ void KERNEL(operation##_many)(const real* x, const long long* y, real* losses, real* dx, \
                                                        index_t n, index_t c) {                                    \
        operation<WholeBlock>(x, y, losses, dx, n, c);                                                             \
    }
LOSS(softmax_loss)
LOSS(svm_loss)

// loss = sum of losses / n; one block.
extern "C" __global__ void KERNEL(mean_loss)(const real* losses, real* loss, index_t n) {
    Sum total = Sum::empty();
    for (index_t i = (index_t)threadIdx.x; i < n; i += (index_t)blockDim.x) total.value += losses[i];
    reduce_block(total);
    if (threadIdx.x == 0) *loss = total.value / (real)n;
}
