// Softmax and SVM loss with their gradients. A block has a sample; a second kernel adds up the samples' losses.
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

// losses (N,) and dx (N, C) of scores x and labels y. A label outside [0, C) makes both NaN: labels on a device are
// not looked at beforehand, and a wrong number must not look like a right one.
extern "C" __global__ void KERNEL(softmax_loss)(const real* x, const long long* y, real* losses, real* dx, index_t n,
                                                index_t c) {
    __shared__ real shared_value;
    for (index_t row = (index_t)blockIdx.x; row < n; row += (index_t)gridDim.x) {
        const real* scores = x + row * c;
        const long long label = y[row];
        const bool known = label >= 0 && label < c;
        Largest largest = Largest::empty();
        for (index_t k = (index_t)threadIdx.x; k < c; k += (index_t)blockDim.x) largest.add(Largest{scores[k]});
        reduce_block(largest);
        if (threadIdx.x == 0) shared_value = largest.value;
        __syncthreads();
        const real top = shared_value;
        Sum total = Sum::empty();
        for (index_t k = (index_t)threadIdx.x; k < c; k += (index_t)blockDim.x) total.value += exp(scores[k] - top);
        reduce_block(total);
        if (threadIdx.x == 0) {
            shared_value = total.value;
            // log(total) - shifted, not -log(probability): a probability may underflow to 0.
            losses[row] = known ? log(total.value) - (scores[label] - top) : not_a_number();
        }
        __syncthreads();
        const real denominator = shared_value;
        for (index_t k = (index_t)threadIdx.x; k < c; k += (index_t)blockDim.x) {
            const real probability = exp(scores[k] - top) / denominator;
            dx[row * c + k] = known ? (probability - (k == label ? real(1) : real(0))) / (real)n : not_a_number();
        }
    }
}

extern "C" __global__ void KERNEL(svm_loss)(const real* x, const long long* y, real* losses, real* dx, index_t n,
                                            index_t c) {
    __shared__ real shared_count;
    for (index_t row = (index_t)blockIdx.x; row < n; row += (index_t)gridDim.x) {
        const real* scores = x + row * c;
        const long long label = y[row];
        const bool known = label >= 0 && label < c;
        const real right = known ? scores[label] : not_a_number();
        SumPair sums = SumPair::empty();  // hinge losses, and how many margins are missed
        for (index_t k = (index_t)threadIdx.x; k < c; k += (index_t)blockDim.x) {
            const real margin = scores[k] - right + real(1);
            if (k != label && !(margin <= real(0))) {
                sums.first += margin;
                if (margin > real(0)) sums.second += real(1);
            }
        }
        reduce_block(sums);
        if (threadIdx.x == 0) {
            losses[row] = sums.first;
            shared_count = sums.second;
        }
        __syncthreads();
        const real missed = shared_count;
        for (index_t k = (index_t)threadIdx.x; k < c; k += (index_t)blockDim.x) {
            const real margin = scores[k] - right + real(1);
            const real gradient = k == label ? -missed : margin > real(0) ? real(1) : real(0);
            dx[row * c + k] = known ? gradient / (real)n : not_a_number();
        }
    }
}

// loss = sum of losses / n; one block.
extern "C" __global__ void KERNEL(mean_loss)(const real* losses, real* loss, index_t n) {
    Sum total = Sum::empty();
    for (index_t i = (index_t)threadIdx.x; i < n; i += (index_t)blockDim.x) total.value += losses[i];
    reduce_block(total);
    if (threadIdx.x == 0) *loss = total.value / (real)n;
}
