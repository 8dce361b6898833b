// Several arrays in one launch: their addresses travel in the kernel's arguments.
constexpr int MAX_TENSORS = 16, CHUNK = 4096;  // CHUNK values a block

struct Tensor {
    real* out;       // the new parameter; may be w
    const real* w;   // parameter
    real* gradient;
    real* first;     // state of the update rule, null where it has none
    real* second;
    long long size;
    long long first_chunk;  // of this array, counted over all arrays of the launch
};

struct Tensors {
    Tensor items[MAX_TENSORS];
    long long count, chunks;
};

// Calls body(tensor, i) for every value of every array.
template <class Body>
__device__ void for_each_value(const Tensors& tensors, const Body& body) {
    for (long long chunk = blockIdx.x; chunk < tensors.chunks; chunk += gridDim.x) {
        int item = (int)tensors.count - 1;
        while (tensors.items[item].first_chunk > chunk) --item;
        const Tensor& tensor = tensors.items[item];
        const long long begin = (chunk - tensor.first_chunk) * CHUNK;
        const long long end = begin + CHUNK < tensor.size ? begin + CHUNK : tensor.size;
        for (long long i = begin + threadIdx.x; i < end; i += blockDim.x) body(tensor, i);
    }
}
