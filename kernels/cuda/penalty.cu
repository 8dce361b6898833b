// The L2 penalty of several weights in one launch, clipping of their gradients, and the bookkeeping of steps that are
// queued.
#include "reduce.cuh"
#include "tensors.cuh"

// gradient += reg * w, and parts[blockIdx.x] = this block's share of the sum of squares.
extern "C" __global__ void KERNEL(l2_penalty)(const __grid_constant__ Tensors t, real* parts, real reg) {
    Sum squares = Sum::empty();
    for_each_value(t.sizes, [&](int item, long long i) {
        const real w = t.w[item][i];
        t.gradient[item][i] += reg * w;
        squares.value += w * w;
    });
    reduce_block(squares);
    if (threadIdx.x == 0) parts[blockIdx.x] = squares.value;
}

// out = loss + factor * sum of parts; one block.
extern "C" __global__ void KERNEL(add_penalty)(const real* loss, const real* parts, real* out, index_t count,
                                               real factor) {
    Sum sum = Sum::empty();
    for (index_t i = (index_t)threadIdx.x; i < count; i += (index_t)blockDim.x) sum.value += parts[i];
    reduce_block(sum);
    if (threadIdx.x == 0) *out = *loss + factor * sum.value;
}

// parts[blockIdx.x] = this block's share of the sum of squares of every w.
extern "C" __global__ void KERNEL(sum_squares)(const __grid_constant__ Tensors t, Squares* parts) {
    Squares squares = Squares::empty();
    for_each_value(t.sizes, [&](int item, long long i) { squares.add(t.w[item][i]); });
    reduce_block(squares);
    if (threadIdx.x == 0) parts[blockIdx.x] = squares;
}

// out = w * min(1, max_norm / norm), the norm being the square root of the sum of parts, which each block adds up.
extern "C" __global__ void KERNEL(clip)(const __grid_constant__ Tensors t, const Squares* parts, index_t count,
                                        real max_norm) {
    __shared__ real unit, scale;
    Squares sum = Squares::empty();
    for (index_t i = (index_t)threadIdx.x; i < count; i += (index_t)blockDim.x) sum.add(parts[i]);
    reduce_block(sum);
    if (threadIdx.x == 0) {
        const real norm = sum.root();
        const bool clips = norm > max_norm * sum.unit();
        unit = clips ? sum.unit() : real(1);
        scale = clips ? max_norm / norm : real(1);
    }
    __syncthreads();
    for_each_value(t.sizes, [&](int item, long long i) { t.out[item][i] = t.w[item][i] * unit * scale; });
}

// losses[*row] = loss, and *stopped = 1 once a loss is not finite; one thread.
extern "C" __global__ void KERNEL(record_loss)(const real* loss, double* losses, const long long* row,
                                               long long* stopped) {
    const real value = *loss;
    losses[*row] = (double)value;
    if (value - value != real(0)) *stopped = 1;  // infinite or NaN
}

// The end of a queued step; one thread.
extern "C" __global__ void KERNEL(next_step)(long long* row) { *row += 1; }

// Several copies in one launch, in words of 4 bytes.
struct Copies {
    unsigned* out[MAX_TENSORS];
    const unsigned* value[MAX_TENSORS];
    Sizes sizes;
};

// out = value, unless a loss was not finite.
extern "C" __global__ void KERNEL(assign)(const __grid_constant__ Copies copies, const long long* stopped) {
    if (*stopped != 0) return;
    for_each_value(copies.sizes, [&](int item, long long i) { copies.out[item][i] = copies.value[item][i]; });
}

// The same for one array that has no whole words.
extern "C" __global__ void KERNEL(assign_bytes)(unsigned char* out, const unsigned char* value, index_t count,
                                                const long long* stopped) {
    if (*stopped != 0) return;
    GRID_STRIDE(i, count) { out[i] = value[i]; }
}
