// Winograd's F(2x2, 3x3) (Lavin and Gray, 2016): 16 products instead of 36 for 2 x 2 outputs of a 3 x 3 filter.
//
// Tiles of 4 x 4 inputs, 2 apart, are transformed to 16 matrices of channels by tiles; each is multiplied with the
// filters' transform; their sum goes back to 2 x 2 outputs. Larger tiles would save more and round worse.
#pragma once
#include "padded_image.hpp"
#include "parallel.hpp"
#include "register_tile.hpp"

namespace gconv {
namespace GCONV_LEVEL {

template <typename T>
class Winograd {
  public:
    Winograd(const Correlation& g, ptrdiff_t filters, ptrdiff_t band_rows)
        : g_(g),
          tiles_(as_tiles(g)),
          blocks_(filters),
          // tile rows of a unit: the transforms of inputs and outputs together in the second-level cache
          unit_rows_(larger(1, smaller(smaller(divide_up(g.out_height, 2), band_rows / 2),
                                       UNIT_BYTES / ptrdiff_t(sizeof(T)) / 16 / (g.channels + filters) /
                                           larger(tiles_.out_width, 1)))),
          layout_(tiles_, unit_rows_, sizeof(T), 2 * LANES<T>),
          pitch_(round_up(unit_rows_ * tiles_.out_width, LANES<T>) + LANES<T>),
          input_part_(odd_lines(g.channels * pitch_)),
          output_part_(odd_lines(filters * pitch_)) {}

    // A 3 x 3 filter at stride 1, enough channels on both sides, a vector of tiles, and rows that leave room.
    bool worthwhile() const {
        return g_.field_height == 3 && g_.field_width == 3 && g_.stride_y == 1 && g_.stride_x == 1 &&
               smaller(g_.channels, blocks_.rows) >= 16 && unit_rows_ * tiles_.out_width >= LANES<T> &&
               16 * (input_part_ + output_part_) * ptrdiff_t(sizeof(T)) <= 4 * UNIT_BYTES;
    }

    void take_shared(Arena& arena) {
        panels_ = arena.take<T>(16 * blocks_.rows * g_.channels);
        offsets_ = arena.take<ptrdiff_t>(g_.channels);
        zeros_ = arena.take<T>(TILE_ROWS);
    }

    T* take_own(Arena& arena) const {
        return arena.take<T>(layout_.size + layout_.unsorted + 16 * (input_part_ + output_part_) + LANES<T>);
    }

    // Returns whether the filters' transform is finite; it is not usable otherwise.
    template <typename Weight>
    bool prepare(Weight weight, const T* bias) {
        bias_ = bias;
        const ptrdiff_t channels = g_.channels, all = blocks_.rows * channels;
        T check = 0;
        for (ptrdiff_t block = 0; block < blocks_.count; ++block) {
            const ptrdiff_t begin = blocks_.begin(block), size = blocks_.begin(block + 1) - begin;
            for (ptrdiff_t f = begin; f < begin + size; ++f)
                for (ptrdiff_t c = 0; c < channels; ++c) {
                    T half[4][3], whole[4][4];
                    for (int j = 0; j < 3; ++j) {
                        const T w0 = weight(f, c * 9 + j), w1 = weight(f, c * 9 + 3 + j), w2 = weight(f, c * 9 + 6 + j);
                        transform_filter(w0, w1, w2, half[0][j], half[1][j], half[2][j], half[3][j]);
                    }
                    for (int i = 0; i < 4; ++i)
                        transform_filter(half[i][0], half[i][1], half[i][2], whole[i][0], whole[i][1], whole[i][2],
                                         whole[i][3]);
                    for (int part = 0; part < 16; ++part) {
                        const T value = whole[part / 4][part % 4];
                        panels_[part * all + begin * channels + c * size + f - begin] = value;
                        check += value - value;
                    }
                }
        }
        for (ptrdiff_t c = 0; c < channels; ++c) offsets_[c] = c * pitch_;
        for (int m = 0; m < TILE_ROWS; ++m) zeros_[m] = 0;
        return check == 0;
    }

    // As Correlator::run. Returns false, and the output is then not valid, where a value of the image is not finite
    // or so large that a difference could overflow: in a transform such a value would reach pixels whose windows do
    // not hold it.
    bool run(const T* image, ptrdiff_t y, ptrdiff_t rows, bool relu, T* out, ptrdiff_t plane, T* own) const {
        T *padded = own, *unsorted = padded + layout_.size, *inputs = unsorted + layout_.unsorted;
        T* outputs = inputs + 16 * input_part_;
        const ptrdiff_t end = y + rows, across = tiles_.out_width;
        for (; y < end; y += 2 * unit_rows_, out += 2 * unit_rows_ * g_.out_width) {
            const ptrdiff_t left = smaller(end - y, 2 * unit_rows_), unit_rows = divide_up(left, 2);
            pad_image(tiles_, layout_, image, y / 2, unit_rows, unsorted, padded);
            if (!transform_inputs(padded, unit_rows, inputs)) return false;
            multiply(inputs, unit_rows * across, outputs);
            for (ptrdiff_t f = 0; f < blocks_.rows; ++f)
                transform_outputs(outputs + f * pitch_, bias_[f], left, relu, out + f * plane);
        }
        return true;
    }

  private:
    using Integer = typename Simd<T>::Integer;
    static constexpr ptrdiff_t UNIT_BYTES = 768 * 1024;

    // Tiles as the outputs of a 4 x 4 filter with stride 2.
    static Correlation as_tiles(Correlation g) {
        g.field_height = g.field_width = 4;
        g.stride_y = g.stride_x = 2;
        g.out_height = divide_up(g.out_height, 2);
        g.out_width = divide_up(g.out_width, 2);
        return g;
    }

    // The 16 matrices are read and written side by side: an odd number of cache lines apart, they meet in no set.
    static ptrdiff_t odd_lines(ptrdiff_t size) {
        constexpr ptrdiff_t line = 64 / sizeof(T);
        return (divide_up(size, line) | 1) * line;
    }

    static void transform_filter(T w0, T w1, T w2, T& u0, T& u1, T& u2, T& u3) {
        u0 = w0;
        u1 = (w0 + w1 + w2) / 2;
        u2 = (w0 - w1 + w2) / 2;
        u3 = w2;
    }

    bool transform_inputs(const T* padded, ptrdiff_t unit_rows, T* inputs) const {
        const Integers<T> lane = lane_numbers<T>();
        Vector<T> check{};
        for (ptrdiff_t c = 0; c < g_.channels; ++c)
            for (ptrdiff_t tile_row = 0; tile_row < unit_rows; ++tile_row)
                for (ptrdiff_t x = 0; x < tiles_.out_width; x += LANES<T>) {
                    const T* from = padded + c * layout_.plane_pitch + 2 * tile_row * layout_.row_pitch + x;
                    T* to = inputs + c * pitch_ + tile_row * tiles_.out_width + x;
                    Vector<T> half[4][4], sums{};
#pragma GCC unroll 4
                    for (int j = 0; j < 4; ++j) {
                        const T* column = from + j % 2 * layout_.phase_width + j / 2;
                        const Vector<T> d0 = load(column), d1 = load(column + layout_.row_pitch),
                                        d2 = load(column + 2 * layout_.row_pitch),
                                        d3 = load(column + 3 * layout_.row_pitch);
                        half[0][j] = d0 - d2;
                        half[1][j] = d1 + d2;
                        half[2][j] = d2 - d1;
                        half[3][j] = d1 - d3;
                    }
#pragma GCC unroll 4
                    for (int i = 0; i < 4; ++i) {
                        T* row = to + 4 * i * input_part_;
                        const Vector<T> v0 = half[i][0] - half[i][2], v1 = half[i][1] + half[i][2],
                                        v2 = half[i][2] - half[i][1], v3 = half[i][1] - half[i][3];
                        store(row, v0);
                        store(row + input_part_, v1);
                        store(row + 2 * input_part_, v2);
                        store(row + 3 * input_part_, v3);
                        sums += (v0 + v1) + (v2 + v3);
                    }
                    const ptrdiff_t left = tiles_.out_width - x;
                    check += lane < Integer(smaller(left, LANES<T>)) ? sums - sums : Vector<T>{};
                }
        const Integers<T> wrong = check != 0;
        Integer any = 0;
        for (int i = 0; i < LANES<T>; ++i) any |= wrong[i];
        return !any;
    }

    void multiply(const T* inputs, ptrdiff_t tiles, T* outputs) const {
        const ptrdiff_t all = blocks_.rows * g_.channels, slots = divide_up(tiles, LANES<T>);
        for (int part = 0; part < 16; ++part)
            for (ptrdiff_t slot = 0; slot < slots; slot += TILE_VECTORS) {
                const ptrdiff_t vectors = smaller(TILE_VECTORS, slots - slot);
                const T* columns[TILE_VECTORS];
                ptrdiff_t places[TILE_VECTORS];
                for (ptrdiff_t v = 0; v < TILE_VECTORS; ++v) {
                    places[v] = (slot + smaller(v, vectors - 1)) * LANES<T>;
                    columns[v] = inputs + part * input_part_ + places[v];
                }
                for (ptrdiff_t block = 0; block < blocks_.count; ++block) {
                    const ptrdiff_t begin = blocks_.begin(block);
                    const TileTarget<T> target{outputs + part * output_part_ + begin * pitch_, pitch_, places, zeros_,
                                               false};
                    tile_of<T>(blocks_.begin(block + 1) - begin, vectors, false)(
                        g_.channels, panels_ + part * all + begin * g_.channels, offsets_, columns, target);
                }
            }
    }

    void transform_outputs(const T* outputs, T bias, ptrdiff_t rows, bool relu, T* out) const {
        const ptrdiff_t part = output_part_;
        for (ptrdiff_t y = 0; y < rows; y += 2, outputs += tiles_.out_width)
            for (ptrdiff_t x = 0; x < tiles_.out_width; x += LANES<T>) {
                Vector<T> half[2][4];
#pragma GCC unroll 4
                for (int j = 0; j < 4; ++j) {
                    const Vector<T> m0 = load(outputs + x + j * part), m1 = load(outputs + x + (4 + j) * part),
                                    m2 = load(outputs + x + (8 + j) * part), m3 = load(outputs + x + (12 + j) * part);
                    half[0][j] = m0 + m1 + m2;
                    half[1][j] = m1 - m2 - m3;
                }
#pragma GCC unroll 2
                for (int i = 0; i < 2; ++i) {
                    if (y + i >= rows) break;
                    Vector<T> even = half[i][0] + half[i][1] + half[i][2] + bias;
                    Vector<T> odd = half[i][1] - half[i][2] - half[i][3] + bias;
                    if (relu) {
                        even = even < 0 ? Vector<T>{} : even;
                        odd = odd < 0 ? Vector<T>{} : odd;
                    }
                    Vector<T> low, high;
                    interleave<T>(even, odd, low, high);
                    T* row = out + (y + i) * g_.out_width + 2 * x;
                    const ptrdiff_t left = g_.out_width - 2 * x;
                    store_up_to(row, low, left);
                    store_up_to(row + LANES<T>, high, left - LANES<T>);
                }
            }
    }

    Correlation g_, tiles_;
    RowBlocks blocks_;
    ptrdiff_t unit_rows_;
    PaddedLayout layout_;
    ptrdiff_t pitch_, input_part_, output_part_;
    T *panels_ = nullptr, *zeros_ = nullptr;
    const T* bias_ = nullptr;
    ptrdiff_t* offsets_ = nullptr;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
