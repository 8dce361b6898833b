// A tile of sums of outer products, kept in registers: columns of a matrix that is read in place, a row of which is
// contiguous or a constant step apart, times rows of a packed one.
#pragma once
#include "simd.hpp"

namespace gconv {
namespace GCONV_LEVEL {

constexpr ptrdiff_t OUTER_VECTORS = REGISTERS == 32 ? 4 : 2;
constexpr ptrdiff_t OUTER_ROWS = REGISTERS == 32 ? 8 : 6;

// The most rows of a tile with so many vectors: accumulators, a row of values and a factor fill the registers.
constexpr ptrdiff_t outer_rows(ptrdiff_t vectors) { return vectors == 4 ? 6 : OUTER_ROWS; }

// sums[m][v] = (fresh ? 0 : sums[m][v]) + over (y, x): rows[m][y * step + x] * values[y * width + x][v], where values
// and sums have VECTORS vectors a row.
template <typename T>
using OuterTile = void (*)(ptrdiff_t height, ptrdiff_t width, ptrdiff_t step, const T* const* rows, const T* values,
                           bool fresh, T* sums);

template <typename T, int ROWS, int VECTORS>
void outer_tile_of(ptrdiff_t height, ptrdiff_t width, ptrdiff_t step, const T* const* rows, const T* values, bool fresh,
                   T* sums) {
    constexpr ptrdiff_t pitch = VECTORS * LANES<T>;
    Vector<T> total[ROWS][VECTORS];
    const T* row[ROWS];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m) {
        row[m] = rows[m];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) total[m][v] = fresh ? Vector<T>{} : load(sums + m * pitch + v * LANES<T>);
    }
    for (ptrdiff_t y = 0; y < height; ++y) {
        for (ptrdiff_t x = 0; x < width; ++x, values += pitch) {
            Vector<T> value[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) value[v] = load(values + v * LANES<T>);
#pragma GCC unroll 8
            for (int m = 0; m < ROWS; ++m) {
                const Vector<T> factor = splat(row[m][x]);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) total[m][v] += factor * value[v];
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < ROWS; ++m) row[m] += step;
    }
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) store(sums + m * pitch + v * LANES<T>, total[m][v]);
}

template <typename T, int VECTORS>
OuterTile<T> outer_tile_with(ptrdiff_t rows) {
    static constexpr OuterTile<T> tiles[] = {outer_tile_of<T, 1, VECTORS>, outer_tile_of<T, 2, VECTORS>,
                                             outer_tile_of<T, 3, VECTORS>, outer_tile_of<T, 4, VECTORS>,
                                             outer_tile_of<T, 5, VECTORS>, outer_tile_of<T, 6, VECTORS>,
                                             outer_tile_of<T, 7, VECTORS>, outer_tile_of<T, 8, VECTORS>};
    return tiles[rows - 1];
}

template <typename T>
OuterTile<T> outer_tile(ptrdiff_t rows, ptrdiff_t vectors) {
    switch (vectors) {
        case 1:
            return outer_tile_with<T, 1>(rows);
        case 2:
            return outer_tile_with<T, 2>(rows);
#if GCONV_VECTOR_BYTES == 64 || defined(__aarch64__)
        case 3:
            return outer_tile_with<T, 3>(rows);
#endif
        default:
            return outer_tile_with<T, OUTER_VECTORS>(rows);
    }
}

// Columns in parts that a tile covers. What belongs to a part stands together: whole rows could be so far apart that
// they meet in few sets of the cache.
struct ColumnParts {
    ptrdiff_t vectors, count;
    int lanes;

    struct Part {
        ptrdiff_t begin, width;
    };

    ColumnParts(ptrdiff_t columns, int lanes_)
        : vectors(divide_up(columns, lanes_)), count(divide_up(vectors, OUTER_VECTORS)), lanes(lanes_) {}

    ptrdiff_t padded() const { return vectors * lanes; }

    Part operator[](ptrdiff_t number) const {
        const ptrdiff_t begin = number * vectors / count;
        return {begin * lanes, ((number + 1) * vectors / count - begin) * lanes};
    }
};

// Writes a matrix of `rows` contiguous rows, `pitch` apart, transposed: `columns` rows of `width` values, a multiple of
// LANES. Rows that do not exist count as zeros; whole vectors of columns are written.
template <typename T>
void pack_transposed(const T* from, ptrdiff_t pitch, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t width, T* to) {
    for (ptrdiff_t f = 0; f < width; f += LANES<T>)
        for (ptrdiff_t p = 0; p < columns; p += LANES<T>) {
            const ptrdiff_t count = smaller(LANES<T>, columns - p);
            Vector<T> block[LANES<T>];
#pragma GCC unroll 16
            for (int i = 0; i < LANES<T>; ++i) {
                const T* row = from + (f + i) * pitch + p;
                if (f + i >= rows)
                    block[i] = Vector<T>{};
                else
                    block[i] = count == LANES<T> ? load(row) : load_first(row, count, T(0));
            }
            transpose<T>(block);
#pragma GCC unroll 16
            for (int i = 0; i < LANES<T>; ++i) store(to + (p + i) * width + f, block[i]);
        }
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
