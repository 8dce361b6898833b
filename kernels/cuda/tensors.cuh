// Several arrays in one launch: their addresses travel in the kernel's arguments, of which there may be 4 KB.
constexpr int MAX_TENSORS = 16, MAX_STATES = 2, CHUNK = 4096;  // CHUNK values a block

// How many values each array has, and its first chunk, counted over all arrays of the launch.
struct Sizes {
    long long size[MAX_TENSORS];
    long long first_chunk[MAX_TENSORS];
    long long count, chunks;
};

struct Tensors {
    real* out[MAX_TENSORS];  // the new parameters; may be w
    const real* w[MAX_TENSORS];
    real* gradient[MAX_TENSORS];
    const real* state[MAX_STATES][MAX_TENSORS];  // of the update rule, null where it has none
    real* new_state[MAX_STATES][MAX_TENSORS];    // may be the states
    Sizes sizes;
};

// Calls body(item, i) for every value i of every array.
template <class Body>
__device__ void for_each_value(const Sizes& sizes, const Body& body) {
    for (long long chunk = blockIdx.x; chunk < sizes.chunks; chunk += gridDim.x) {
        int item = (int)sizes.count - 1;
        while (sizes.first_chunk[item] > chunk) --item;
        const long long begin = (chunk - sizes.first_chunk[item]) * CHUNK;
        const long long end = begin + CHUNK < sizes.size[item] ? begin + CHUNK : sizes.size[item];
        for (long long i = begin + threadIdx.x; i < end; i += blockDim.x) body(item, i);
    }
}
