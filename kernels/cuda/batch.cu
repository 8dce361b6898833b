// Minibatches on the device: rows of a data set, and augmented images from bytes.

// out[i] = data[indices[i]] for rows of so many words, any dtype copied as words of its size. With step, row *step of
// indices (steps, rows) is used. An index outside [0, count) is a mistake of the caller, and reads nothing: zeros.
template <class Word>
__device__ void gather_rows(const Word* data, const long long* indices, const long long* step, Word* out, index_t rows,
                            index_t words, index_t count) {
    const long long* chosen = step ? indices + *step * rows : indices;
    GRID_STRIDE(i, rows * words) {
        index_t word;
        const index_t row = divide(i, words, word);
        const long long source = chosen[row];
        out[i] = source >= 0 && source < count ? data[(index_t)source * words + word] : Word(0);
    }
}

#define GATHER_ROWS(suffix, Word)                                                                          \
    extern "C" __global__ void KERNEL(gather_rows##suffix)(const Word* data, const long long* indices,     \
                                                           const long long* step, Word* out, index_t rows, \
                                                           index_t words, index_t count) {                 \
        gather_rows(data, indices, step, out, rows, words, count);                                         \
    }
GATHER_ROWS(_1, unsigned char)
GATHER_ROWS(_2, unsigned short)
GATHER_ROWS(_4, unsigned)
GATHER_ROWS(_8, unsigned long long)

// out (N, C, H, W) from rows of uint8 images: cut out at (top, left) of an image that zeros surround, mirrored left
// to right where flip is 1, then (value - mean[c]) * scale[c], the zeros too.
extern "C" __global__ void KERNEL(augment)(const unsigned char* data, const long long* indices, const int* tops,
                                           const int* lefts, const unsigned char* flips, const real* mean,
                                           const real* scale, real* out, index_t n, index_t c, index_t h, index_t w,
                                           index_t count) {
    GRID_STRIDE(i, n * c * h * w) {
        index_t column, row, channel;
        const index_t image = divide(divide(divide(i, w, column), h, row), c, channel);
        const long long source = indices[image];
        const index_t y = row + tops[image];
        const index_t x = (flips[image] ? w - 1 - column : column) + lefts[image];
        const bool inside = source >= 0 && source < count && y >= 0 && y < h && x >= 0 && x < w;
        const real value = inside ? (real)data[(((index_t)source * c + channel) * h + y) * w + x] : real(0);
        out[i] = (value - mean[channel]) * scale[channel];
    }
}
