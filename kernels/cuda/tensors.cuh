// Several arrays in one launch: their addresses travel in the kernel's arguments.
constexpr int MAX_TENSORS = 16, CHUNK = 4096;  // CHUNK values a block

struct Tensors {
    real* out[MAX_TENSORS];  // the new parameters; may be w
    const real* w[MAX_TENSORS];
    real* gradient[MAX_TENSORS];
    real* first[MAX_TENSORS];  // state of the update rule, null where it has none
    real* second[MAX_TENSORS];
    long long size[MAX_TENSORS];
    long long first_chunk[MAX_TENSORS];  // of each array, counted over all arrays of the launch
    long long count, chunks;
};

// Calls body(item, i) for every value i of every array.
template <class Body>
__device__ void for_each_value(const Tensors& tensors, const Body& body) {
    for (long long chunk = blockIdx.x; chunk < tensors.chunks; chunk += gridDim.x) {
        int item = (int)tensors.count - 1;
        while (tensors.first_chunk[item] > chunk) --item;
        const long long begin = (chunk - tensors.first_chunk[item]) * CHUNK;
        const long long end = begin + CHUNK < tensors.size[item] ? begin + CHUNK : tensors.size[item];
        for (long long i = begin + threadIdx.x; i < end; i += blockDim.x) body(item, i);
    }
}
