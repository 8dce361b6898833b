// Matrix products of affine layers, with bits that do not depend on the number of threads.
#pragma once
#include "kernels.hpp"
#include "outer_tile.hpp"
#include "parallel.hpp"

namespace gconv {
namespace GCONV_LEVEL {

template <typename T>
class MatrixProduct {
  public:
    MatrixProduct(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth)
        : rows_(rows),
          columns_(columns),
          depth_(depth),
          chunk_rows_(smaller(rows, ROWS)),
          chunk_columns_(smaller(columns, COLUMNS)) {
        // Pieces of the result, and of the sums where the result has few: by the shapes alone.
        const ptrdiff_t pieces = row_chunks() * column_chunks();
        const ptrdiff_t bytes = larger(piece_size() * pieces * ptrdiff_t(sizeof(T)), 1);
        splits_ = larger(1, smaller(smaller(TASKS / larger(pieces, 1), divide_up(depth, DEPTH)), SPLIT_BYTES / bytes));
    }

    ptrdiff_t tasks() const { return row_chunks() * column_chunks() * splits_; }

    void take_shared(Arena& arena) { sums_ = arena.take<T>(splits_ > 1 ? tasks() * piece_size() : 0); }

    struct Own {
        T *panel, *rows, *sums;
    };

    Own take_own(Arena& arena) const {
        const ptrdiff_t depth = smaller(depth_, DEPTH);
        return {arena.take<T>((depth + LANES<T>)*ColumnParts(chunk_columns_, LANES<T>).padded()),
                arena.take<T>(round_up(depth, LANES<T>) * round_up(chunk_rows_, LANES<T>)),
                arena.take<T>(splits_ > 1 ? 0 : piece_size())};
    }

    // A piece of a (rows, depth) times b (depth, columns); with splits, the sums only.
    void run(ptrdiff_t task, const Matrix<T>& a, const Matrix<T>& b, const T* bias, bool relu, T* out,
             const Own& own) const {
        const Piece at = piece_at(task / splits_);
        T* sums = splits_ > 1 ? sums_ + task * piece_size() : own.sums;
        const ptrdiff_t begin = task % splits_ * depth_ / splits_, end = (task % splits_ + 1) * depth_ / splits_;
        for (ptrdiff_t k = begin; k == begin || k < end; k += DEPTH) {
            const ptrdiff_t depth = smaller(DEPTH, end - k);
            const Matrix<T> left = rows_of(a, at, k, depth, own.rows);
            const ColumnParts parts(at.columns, LANES<T>);
            for (ptrdiff_t number = 0; number < parts.count; ++number) {
                const ColumnParts::Part part = parts[number];
                pack(b, k, depth, at.column + part.begin, smaller(part.width, at.columns - part.begin), part.width,
                     own.panel);
                T* part_sums = sums + chunk_rows_ * part.begin;
                const ptrdiff_t vectors = part.width / LANES<T>, blocks = divide_up(at.rows, outer_rows(vectors));
                for (ptrdiff_t block = 0; block < blocks; ++block) {
                    const ptrdiff_t first = block * at.rows / blocks, last = (block + 1) * at.rows / blocks;
                    const T* rows[OUTER_ROWS];
                    for (ptrdiff_t i = first; i < last; ++i) rows[i - first] = left.data + i * left.row;
                    outer_tile<T>(last - first, vectors)(1, depth, 0, rows, own.panel, k == begin,
                                                         part_sums + first * part.width);
                    if (splits_ == 1 && k + depth == end)
                        write(at, part, first, last, part_sums, 1, 0, bias, relu, out);
                }
            }
        }
    }

    // Adds up the splits, in their order.
    void finish(const T* bias, bool relu, T* out, int threads) const {
        if (splits_ == 1) return;
        const ptrdiff_t pieces = row_chunks() * column_chunks();
        for_each_task(pieces * splits_ * piece_size() < 1 << 17 ? 1 : threads, pieces, [&](ptrdiff_t piece, int) {
            const Piece at = piece_at(piece);
            const ColumnParts parts(at.columns, LANES<T>);
            for (ptrdiff_t number = 0; number < parts.count; ++number)
                write(at, parts[number], 0, at.rows,
                      sums_ + piece * splits_ * piece_size() + chunk_rows_ * parts[number].begin, splits_, piece_size(),
                      bias, relu, out);
        });
    }

  private:
    static constexpr ptrdiff_t ROWS = 128, COLUMNS = 16 * LANES<T>, DEPTH = 256;
    static constexpr ptrdiff_t TASKS = 16;
    static constexpr ptrdiff_t SPLIT_BYTES = 8 << 20;

    struct Piece {
        ptrdiff_t row, rows, column, columns;
    };

    ptrdiff_t row_chunks() const { return divide_up(rows_, larger(chunk_rows_, 1)); }
    ptrdiff_t column_chunks() const { return divide_up(columns_, larger(chunk_columns_, 1)); }
    ptrdiff_t piece_size() const { return chunk_rows_ * ColumnParts(chunk_columns_, LANES<T>).padded(); }

    Piece piece_at(ptrdiff_t number) const {
        const ptrdiff_t row = number / column_chunks() * chunk_rows_,
                        column = number % column_chunks() * chunk_columns_;
        return {row, smaller(chunk_rows_, rows_ - row), column, smaller(chunk_columns_, columns_ - column)};
    }

    // Rows whose values are neighbours: in place, or copied from a transposed matrix.
    static Matrix<T> rows_of(const Matrix<T>& a, const Piece& at, ptrdiff_t k, ptrdiff_t depth, T* copies) {
        const T* from = a.data + at.row * a.row + k * a.column;
        if (a.column == 1) return {from, a.row, 1};
        const ptrdiff_t width = round_up(depth, LANES<T>);
        pack_transposed(from, a.column, depth, at.rows, width, copies);
        return {copies, width, 1};
    }

    static void pack(const Matrix<T>& b, ptrdiff_t k, ptrdiff_t depth, ptrdiff_t column, ptrdiff_t columns,
                     ptrdiff_t width, T* panel) {
        const T* from = b.data + k * b.row + column * b.column;
        if (b.column != 1) {
            pack_transposed(from, b.column, columns, depth, width, panel);
            return;
        }
        for (ptrdiff_t i = 0; i < depth; ++i, from += b.row, panel += width) {
            copy(panel, from, columns);
            for (ptrdiff_t j = columns; j < width; ++j) panel[j] = 0;
        }
    }

    // Rows [first, last) of a part, the sum of `count` sums `step` apart.
    void write(const Piece& at, const ColumnParts::Part& part, ptrdiff_t first, ptrdiff_t last, const T* sums,
               ptrdiff_t count, ptrdiff_t step, const T* bias, bool relu, T* out) const {
        for (ptrdiff_t i = first; i < last; ++i)
            for (ptrdiff_t j = 0; j < part.width; j += LANES<T>) {
                const ptrdiff_t column = part.begin + j, left = at.columns - column;
                const T* from = sums + i * part.width + j;
                Vector<T> total = load(from);
                for (ptrdiff_t split = 1; split < count; ++split) total += load(from + split * step);
                if (bias) total += load_up_to(bias + at.column + column, left);
                if (relu) total = total < 0 ? Vector<T>{} : total;
                store_up_to(out + (at.row + i) * columns_ + at.column + column, total, left);
            }
    }

    ptrdiff_t rows_, columns_, depth_, chunk_rows_, chunk_columns_, splits_;
    T* sums_ = nullptr;
};

// out (rows, columns) = a times b, plus bias (columns,) where there is one. Returns false where there is no memory.
template <typename T>
bool matrix_product(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const Matrix<T>& a, const Matrix<T>& b,
                    const T* bias, bool relu, T* out, int threads) {
    MatrixProduct<T> product(rows, columns, depth);
    const bool done =
        over_groups(product, rows * columns * depth < 1 << 17 ? 1 : threads,
                    [&](ptrdiff_t task, const auto& own) { product.run(task, a, b, bias, relu, out, own); });
    if (done) product.finish(bias, relu, out, threads);
    return done;
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
