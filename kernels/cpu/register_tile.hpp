// The innermost part of every product: a tile of `ROWS` rows and `VECTORS` vectors of columns, kept in registers.
#pragma once
#include "simd.hpp"

namespace gconv {
namespace GCONV_LEVEL {

// Tiles that fill the registers: accumulators, a vector of each column and one broadcast value. A product with few
// rows gets a narrow tile, with more columns.
constexpr int TILE_ROWS = REGISTERS == 32 ? 8 : 6;
constexpr int TILE_VECTORS = REGISTERS == 32 ? 3 : 2;
constexpr int NARROW_ROWS = 3;
constexpr int NARROW_VECTORS = REGISTERS == 32 ? 8 : 3;

template <typename T>
struct TileTarget {
    T* base;
    ptrdiff_t row_stride;
    const ptrdiff_t* places;  // of each vector in a row
    const T* start;           // a value a row to begin with; null: what the target holds
    bool relu;
};

// target[m][v] = start + sum over k of rows[k][m] * columns[v][offsets[k] ...], in the order of k.
template <typename T>
using Tile = void (*)(ptrdiff_t depth, const T* rows, const ptrdiff_t* offsets, const T* const* columns,
                      const TileTarget<T>& target);

template <typename T, int ROWS, int VECTORS>
void register_tile(ptrdiff_t depth, const T* rows, const ptrdiff_t* offsets, const T* const* columns,
                   const TileTarget<T>& target) {
    Vector<T> sums[ROWS][VECTORS];
    const T* column[VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) column[v] = columns[v];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v)
            sums[m][v] =
                target.start ? splat(target.start[m]) : load(target.base + m * target.row_stride + target.places[v]);
    for (ptrdiff_t k = 0; k < depth; ++k, rows += ROWS) {
        const ptrdiff_t offset = offsets[k];
        Vector<T> values[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) values[v] = load(column[v] + offset);
#pragma GCC unroll 8
        for (int m = 0; m < ROWS; ++m) {
            const Vector<T> row = splat(rows[m]);
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) sums[m][v] += row * values[v];
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
            Vector<T> value = sums[m][v];
            if (target.relu) value = value < 0 ? Vector<T>{} : value;  // NaN stays
            store(target.base + m * target.row_stride + target.places[v], value);
        }
}

// The tile for so many rows and vectors; tiles that are not narrow have TILE_ROWS / 2 rows or more.
template <typename T>
Tile<T> tile_of(ptrdiff_t rows, ptrdiff_t vectors, bool narrow);

template <typename T, int ROWS, int... V>
struct TileRow {
    static constexpr Tile<T> tiles[] = {register_tile<T, ROWS, V>...};
};

template <typename T>
Tile<T> tile_of(ptrdiff_t rows, ptrdiff_t vectors, bool narrow) {
    if (narrow) {
        switch (rows) {
            case 1:
                return register_tile<T, 1, NARROW_VECTORS>;
            case 2:
                return register_tile<T, 2, NARROW_VECTORS>;
            default:
                return register_tile<T, NARROW_ROWS, NARROW_VECTORS>;
        }
    }
    switch (rows) {
#if GCONV_VECTOR_BYTES == 64 || defined(__aarch64__)
        case 4:
            return TileRow<T, 4, 1, 2, 3>::tiles[vectors - 1];
        case 5:
            return TileRow<T, 5, 1, 2, 3>::tiles[vectors - 1];
        case 6:
            return TileRow<T, 6, 1, 2, 3>::tiles[vectors - 1];
        case 7:
            return TileRow<T, 7, 1, 2, 3>::tiles[vectors - 1];
        default:
            return TileRow<T, 8, 1, 2, 3>::tiles[vectors - 1];
#else
        case 3:
            return TileRow<T, 3, 1, 2>::tiles[vectors - 1];
        case 4:
            return TileRow<T, 4, 1, 2>::tiles[vectors - 1];
        case 5:
            return TileRow<T, 5, 1, 2>::tiles[vectors - 1];
        default:
            return TileRow<T, 6, 1, 2>::tiles[vectors - 1];
#endif
    }
}

// Rows in blocks of nearly one size, each of which has a tile: no block is half empty.
struct RowBlocks {
    ptrdiff_t rows, count;
    bool narrow;
    explicit RowBlocks(ptrdiff_t rows_)
        : rows(rows_), count(divide_up(rows_, TILE_ROWS)), narrow(rows_ <= NARROW_ROWS) {}
    ptrdiff_t begin(ptrdiff_t block) const { return block * rows / count; }
    int vectors() const { return narrow ? NARROW_VECTORS : TILE_VECTORS; }
};

// Rows of a matrix in the order in which tiles read them: block by block, for each k the block's values.
template <typename T, typename Value>
void pack_rows(const RowBlocks& blocks, ptrdiff_t depth, Value value, T* panels) {
    for (ptrdiff_t block = 0; block < blocks.count; ++block) {
        const ptrdiff_t begin = blocks.begin(block), end = blocks.begin(block + 1);
        T* panel = panels + begin * depth;
        for (ptrdiff_t m = begin; m < end; ++m)
            for (ptrdiff_t k = 0; k < depth; ++k) panel[k * (end - begin) + m - begin] = value(m, k);
    }
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
