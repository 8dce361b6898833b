// Sums for the gradients of a convolution's filters and biases, over groups of images that threads share.
//
// Each group has sums of its own, which are added up in their order at the end; where the sums are so large that few
// groups fit, ranges of taps are shared too. All by the shapes alone: the threads change no bit.
#pragma once
#include "kernels.hpp"
#include "outer_tile.hpp"
#include "parallel.hpp"

namespace gconv {
namespace GCONV_LEVEL {

template <typename T>
class FilterSums {
  public:
    using Part = ColumnParts::Part;

    // `pixels` of gradients an image has.
    FilterSums(ptrdiff_t depth, ptrdiff_t images, ptrdiff_t filters, ptrdiff_t pixels)
        : parts(filters, LANES<T>), depth_(depth), images_(images), filters_(filters) {
        groups_ = larger(
            1, smaller(smaller(images, MAX_GROUPS), GROUPS_BYTES / ptrdiff_t(sizeof(T)) / larger(group_size(), 1)));
        ranges_ = larger(1, smaller(divide_up(MAX_GROUPS, groups_), divide_up(depth, OUTER_ROWS)));
        long_ = divide_up(images, groups_) * pixels > 2 * LONG;
    }

    ptrdiff_t tasks() const { return groups_ * ranges_; }
    void take(Arena& arena) { sums_ = arena.take<T>((long_ ? 2 : 1) * groups_ * group_size()); }

    // What a task adds up: images [first_image, last_image), taps [first, last), and the bias with the first taps.
    struct Task {
        ptrdiff_t first_image, last_image, first, last;
        T* sums;
        ptrdiff_t added;  // pixels since the sums were put aside
        bool has_bias() const { return first == 0; }
    };

    // Returns a task with its sums at zero.
    Task begin(ptrdiff_t task) const {
        const ptrdiff_t group = task / ranges_, range = task % ranges_;
        const Task at{group * images_ / groups_,      (group + 1) * images_ / groups_, range * depth_ / ranges_,
                      (range + 1) * depth_ / ranges_, sums_ + group * group_size(),    0};
        for_each_row(at, [&](ptrdiff_t row, ptrdiff_t width) {
            fill(at.sums + row, T(0), width);
            if (long_) fill(at.sums + aside() + row, T(0), width);
        });
        return at;
    }

    // After every few rows of an image: a sum that has grown long is put aside, and another one begun. Of 16 million
    // ones, added one by one in float32, the last ones would change nothing.
    void added(Task& at, ptrdiff_t pixels) const {
        at.added += pixels;
        if (!long_ || at.added < LONG) return;
        at.added = 0;
        for_each_row(at, [&](ptrdiff_t row, ptrdiff_t width) {
            T *sums = at.sums + row, *total = sums + aside();
            for (ptrdiff_t i = 0; i < width; i += LANES<T>) {
                store(total + i, load(total + i) + load(sums + i));
                store(sums + i, Vector<T>{});
            }
        });
    }

    // The sums of a part's filters: a row for each tap, then one for the bias.
    T* of(T* sums, const Part& part) const { return sums + part.begin * (depth_ + 1); }

    // Adds `rows` times `width` pixels of gradients, a row of filters for each pixel, to the bias.
    void add_bias(T* sums, const Part& part, const T* gradients, ptrdiff_t rows, ptrdiff_t width) const {
        T* bias = of(sums, part) + depth_ * part.width;
        for (ptrdiff_t f = 0; f < part.width; f += LANES<T>) {
            // Row by row, then the rows: shorter sums round less.
            Vector<T> total{};
            const T* from = gradients + f;
            for (ptrdiff_t y = 0; y < rows; ++y) {
                Vector<T> row{};
                for (ptrdiff_t x = 0; x < width; ++x, from += part.width) row += load(from);
                total += row;
            }
            store(bias + f, load(bias + f) + total);
        }
    }

    // Writes dw (F, C, HH, WW) and db (F,).
    void finish(int threads, T* dw, T* db) const {
        for_each_task(depth_ * filters_ < 1 << 15 ? 1 : threads, parts.count, [&](ptrdiff_t number, int) {
            const Part part = parts[number];
            T* total = of(sums_, part);
            for (ptrdiff_t group = 0; group < groups_ && long_; ++group) {
                T* sums = of(sums_ + group * group_size(), part);
                for (ptrdiff_t i = 0; i < (depth_ + 1) * part.width; i += LANES<T>)
                    store(sums + i, load(sums + aside() + i) + load(sums + i));
            }
            for (ptrdiff_t group = 1; group < groups_; ++group) {
                const T* more = of(sums_ + group * group_size(), part);
                for (ptrdiff_t i = 0; i < (depth_ + 1) * part.width; i += LANES<T>)
                    store(total + i, load(total + i) + load(more + i));
            }
            for (ptrdiff_t f = part.begin; f < smaller(part.begin + part.width, filters_); ++f) {
                for (ptrdiff_t k = 0; k < depth_; ++k) dw[f * depth_ + k] = total[k * part.width + f - part.begin];
                db[f] = total[depth_ * part.width + f - part.begin];
            }
        });
    }

    const ColumnParts parts;

  private:
    static constexpr ptrdiff_t MAX_GROUPS = 16;
    static constexpr ptrdiff_t GROUPS_BYTES = 8 << 20;
    static constexpr ptrdiff_t LONG = 1 << 15;

    ptrdiff_t group_size() const { return parts.padded() * (depth_ + 1); }

    // How far behind its sums what was put aside stands.
    ptrdiff_t aside() const { return groups_ * group_size(); }

    // Calls each(begin, width) for the rows of sums that are a task's.
    template <typename Each>
    void for_each_row(const Task& at, const Each& each) const {
        for (ptrdiff_t number = 0; number < parts.count; ++number) {
            const Part part = parts[number];
            const ptrdiff_t begin = part.begin * (depth_ + 1);
            each(begin + at.first * part.width, (at.last - at.first) * part.width);
            if (at.has_bias()) each(begin + depth_ * part.width, part.width);
        }
    }

    ptrdiff_t depth_, images_, filters_, groups_, ranges_;
    bool long_;
    T* sums_ = nullptr;
};

}  // namespace GCONV_LEVEL
}  // namespace gconv
