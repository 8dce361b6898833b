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

// out (N, C, H, W) of images x, any dtype handled as words of its size: each is surrounded by zeros, cut out at
// (top, left), mirrored left to right, and a square of `cutout` pixels a side at (cut_top, cut_left) becomes 0. draws
// (N, 5) has these numbers, mirrored third; with step, row *step of draws (steps, N, 5).
template <class Word>
__device__ void augment(const Word* x, const int* draws, const long long* step, Word* out, index_t n, index_t c,
                        index_t h, index_t w, index_t cutout) {
    const int* drawn = step ? draws + *step * n * 5 : draws;
    GRID_STRIDE(i, n * c * h * w) {
        index_t column, row, channel;
        const index_t image = divide(divide(divide(i, w, column), h, row), c, channel);
        const int* change = drawn + image * 5;
        const index_t y = row + change[0];
        const index_t source = (change[2] ? w - 1 - column : column) + change[1];
        const index_t cut_row = row - change[3], cut_column = column - change[4];
        const bool cut = cut_row >= 0 && cut_row < cutout && cut_column >= 0 && cut_column < cutout;
        const bool inside = y >= 0 && y < h && source >= 0 && source < w && !cut;
        out[i] = inside ? x[((image * c + channel) * h + y) * w + source] : Word(0);
    }
}

#define AUGMENT(suffix, Word)                                                                                  \
    extern "C" __global__ void KERNEL(augment##suffix)(const Word* x, const int* draws, const long long* step, \
                                                       Word* out, index_t n, index_t c, index_t h, index_t w,  \
                                                       index_t cutout) {                                       \
        augment(x, draws, step, out, n, c, h, w, cutout);                                                      \
    }
AUGMENT(_1, unsigned char)
AUGMENT(_2, unsigned short)
AUGMENT(_4, unsigned)
AUGMENT(_8, unsigned long long)
