// Compares the CPU kernels with loops in float64 on random shapes: for compilers, processors and sanitizers that the
// Python tests do not reach. Exit code 1 and a line for each difference. build.sh builds it.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "parallel.hpp"

using gconv::Correlation;
using gconv::Pool;

static int failures = 0;
static std::mt19937 generator(1);

static ptrdiff_t draw(ptrdiff_t low, ptrdiff_t high) {
    return std::uniform_int_distribution<ptrdiff_t>(low, high)(generator);
}

template <typename T>
static std::vector<T> normal(ptrdiff_t count) {
    std::normal_distribution<double> values;
    std::vector<T> made(static_cast<size_t>(count));
    for (T& value : made) value = static_cast<T>(values(generator));
    return made;
}

template <typename T>
static void compare(const char* what, const Correlation& g, const std::vector<T>& found,
                    const std::vector<double>& expected, ptrdiff_t terms) {
    const double limit = (sizeof(T) == 4 ? 2e-6 : 1e-13) * std::sqrt(static_cast<double>(terms) + 1);
    double most = 1, error = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
        most = std::max(most, std::abs(expected[i]));
        const double difference = std::abs(expected[i] - static_cast<double>(found[i]));
        if (!(difference <= error)) error = difference;
    }
    if (error <= limit * most) return;
    ++failures;
    std::printf("%s float%d: error %g of %g; channels %td image %tdx%td field %tdx%td stride %td,%td pad %td,%td\n",
                what, int(8 * sizeof(T)), error, most, g.channels, g.height, g.width, g.field_height, g.field_width,
                g.stride_y, g.stride_x, g.pad_y, g.pad_x);
}

// A convolution and its gradients, value by value.
template <typename T>
struct Loops {
    std::vector<double> out, dx, dw, db;

    Loops(const Correlation& g, ptrdiff_t n, ptrdiff_t f, const std::vector<T>& x, const std::vector<T>& w,
          const std::vector<T>& b, const std::vector<T>& dout)
        : out(dout.size()), dx(x.size()), dw(w.size()), db(b.size()) {
        size_t at = 0;
        for (ptrdiff_t image = 0; image < n; ++image)
            for (ptrdiff_t k = 0; k < f; ++k)
                for (ptrdiff_t y = 0; y < g.out_height; ++y)
                    for (ptrdiff_t column = 0; column < g.out_width; ++column, ++at) {
                        out[at] = b[k];
                        db[k] += dout[at];
                        for (ptrdiff_t tap = 0; tap < g.depth(); ++tap) {
                            const ptrdiff_t c = tap / (g.field_height * g.field_width);
                            const ptrdiff_t row = y * g.stride_y + tap / g.field_width % g.field_height - g.pad_y;
                            const ptrdiff_t place = column * g.stride_x + tap % g.field_width - g.pad_x;
                            if (row < 0 || row >= g.height || place < 0 || place >= g.width) continue;
                            const size_t xi = ((image * g.channels + c) * g.height + row) * g.width + place;
                            const size_t wi = k * g.depth() + tap;
                            out[at] += double(x[xi]) * w[wi];
                            dx[xi] += double(dout[at]) * w[wi];
                            dw[wi] += double(dout[at]) * x[xi];
                        }
                    }
    }
};

template <typename T>
static void check_convolution(bool for_winograd) {
    const auto& kernels = gconv::kernels_for(static_cast<const T*>(nullptr));
    const ptrdiff_t n = draw(1, 3), f = for_winograd ? draw(16, 34) : draw(1, 34);
    Correlation g{};
    g.channels = for_winograd ? draw(16, 20) : draw(1, 12);
    g.field_height = for_winograd ? 3 : draw(1, 5);
    g.field_width = for_winograd ? 3 : draw(1, 7);
    g.stride_y = for_winograd ? 1 : draw(1, 3);
    g.stride_x = for_winograd ? 1 : draw(1, 3);
    g.pad_y = draw(0, 3);
    g.pad_x = draw(0, 3);
    g.height = draw(std::max<ptrdiff_t>(1, g.field_height - 2 * g.pad_y), 20);
    g.width = draw(std::max<ptrdiff_t>(1, g.field_width - 2 * g.pad_x), 36);
    g.out_height = 1 + (g.height + 2 * g.pad_y - g.field_height) / g.stride_y;
    g.out_width = 1 + (g.width + 2 * g.pad_x - g.field_width) / g.stride_x;
    const auto x = normal<T>(n * g.channels * g.height * g.width), w = normal<T>(f * g.depth()), b = normal<T>(f);
    const auto dout = normal<T>(n * f * g.pixels());
    std::vector<T> out(dout.size()), dx(x.size()), dw(w.size()), db(b.size());
    const bool done = kernels.conv_forward(g, n, f, x.data(), w.data(), b.data(), false, out.data(), 2) &&
                      kernels.conv_input_gradient(g, n, f, dout.data(), w.data(), dx.data(), 2) &&
                      kernels.conv_filter_gradient(g, n, f, dout.data(), x.data(), dw.data(), db.data(), 2);
    const Loops<T> loops(g, n, f, x, w, b, dout);
    failures += !done;
    compare("forward", g, out, loops.out, g.depth());
    compare("dx", g, dx, loops.dx, f * g.field_height * g.field_width);
    compare("dw", g, dw, loops.dw, n * g.pixels());
    compare("db", g, db, loops.db, n * g.pixels());

    // In one with ReLU and pooling: against the kernels one by one.
    Pool pool{g.out_height,
              g.out_width,
              draw(1, std::min<ptrdiff_t>(g.out_height, 3)),
              draw(1, std::min<ptrdiff_t>(g.out_width, 3)),
              draw(1, 3),
              draw(1, 3),
              0,
              0};
    pool.out_height = 1 + (pool.height - pool.pool_height) / pool.stride_y;
    pool.out_width = 1 + (pool.width - pool.pool_width) / pool.stride_x;
    const ptrdiff_t pooled = n * f * pool.pixels();
    std::vector<T> one(pooled), other(pooled), dact(out.size());
    std::vector<uint8_t> places(pooled), other_places(pooled);
    const auto dpool = normal<T>(pooled);
    kernels.conv_forward(g, n, f, x.data(), w.data(), b.data(), true, out.data(), 2);
    kernels.pool_bytes.forward(pool, n * f, out.data(), other.data(), other_places.data(), 2);
    kernels.pool_bytes.conv_relu_forward(g, pool, n, f, x.data(), w.data(), b.data(), one.data(), places.data(), 2);
    if (one != other || places != other_places) {
        ++failures;
        std::printf("conv_relu_pool differs from its parts\n");
    }
    kernels.pool_bytes.backward(pool, n * f, dpool.data(), one.data(), places.data(), dact.data(), 2);
    if (!kernels.has_pooled_filter_gradient(g, pool, n, f)) return;
    kernels.pool_bytes.conv_relu_filter_gradient(g, pool, n, f, dpool.data(), one.data(), places.data(), x.data(),
                                                 dw.data(), db.data(), 2);
    const Loops<T> whole(g, n, f, x, w, b, dact);
    compare("pooled dw", g, dw, whole.dw, n * g.pixels());
    compare("pooled db", g, db, whole.db, n * g.pixels());
}

template <typename T>
static void check_product() {
    const ptrdiff_t rows = draw(1, 200), columns = draw(1, 300), depth = draw(1, 700);
    const bool turn_a = draw(0, 1), turn_b = draw(0, 1);
    const auto a = normal<T>(rows * depth), b = normal<T>(depth * columns), bias = normal<T>(columns);
    const gconv::Matrix<T> left = turn_a ? gconv::Matrix<T>{a.data(), 1, rows} : gconv::Matrix<T>{a.data(), depth, 1};
    const gconv::Matrix<T> right =
        turn_b ? gconv::Matrix<T>{b.data(), 1, depth} : gconv::Matrix<T>{b.data(), columns, 1};
    std::vector<T> out(rows * columns);
    std::vector<double> expected(rows * columns);
    for (ptrdiff_t i = 0; i < rows; ++i)
        for (ptrdiff_t j = 0; j < columns; ++j) {
            double total = bias[j];
            for (ptrdiff_t k = 0; k < depth; ++k)
                total +=
                    double(left.data[i * left.row + k * left.column]) * right.data[k * right.row + j * right.column];
            expected[i * columns + j] = total;
        }
    const auto& kernels = gconv::kernels_for(static_cast<const T*>(nullptr));
    failures += !kernels.matrix_product(rows, columns, depth, left, right, bias.data(), false, out.data(), 2);
    compare("matrix product", Correlation{}, out, expected, depth);
}

// Three steps of every rule between two sets of arrays and in place: the same bits, and what a loop in float64 gives.
template <typename T>
static void check_update_rules() {
    const auto& kernels = gconv::kernels_for(static_cast<const T*>(nullptr));
    const ptrdiff_t count = draw(1, 300);
    gconv::UpdateNumbers<T> numbers{{T(0.1), T(1.5), T(0.01)}, {}};
    const double rate = numbers.scalars[0], correction = numbers.scalars[1], shrink = numbers.scalars[2];
    for (const char* name : {"sgd", "momentum", "nesterov", "rmsprop", "adam"}) {
        const std::string rule = name;
        const std::vector<T> constants = rule == "momentum" ? std::vector<T>{T(0.9), 0}
                                         : rule == "nesterov"
                                             ? std::vector<T>{T(0.9), 1}
                                             : std::vector<T>{T(0.9), T(0.1), T(0.99), T(0.01), T(1e-3)};
        std::copy(constants.begin(), constants.end(), numbers.constants);
        const std::vector<double> c(constants.begin(), constants.end());
        const auto* kernel = kernels.update_kernel(rule == "nesterov" ? "momentum" : name);
        const auto dw = normal<T>(count);
        std::vector<T> sets[2][3], inside[3];
        std::vector<double> exact[3];
        for (int i = 0; i < 3; ++i) {
            inside[i] = normal<T>(count);
            for (T& value : inside[i]) value = i ? std::abs(value) : value;
            exact[i].assign(inside[i].begin(), inside[i].end());
            sets[0][i] = inside[i];
            sets[1][i].resize(inside[i].size());
        }
        for (int step = 0; step < 3; ++step) {
            auto *from = sets[step % 2], *to = sets[1 - step % 2];
            kernel->run(count,
                        {from[0].data(),
                         dw.data(),
                         {from[1].data(), from[2].data()},
                         to[0].data(),
                         {to[1].data(), to[2].data()}},
                        numbers, 2);
            kernel->run(count,
                        {inside[0].data(),
                         dw.data(),
                         {inside[1].data(), inside[2].data()},
                         inside[0].data(),
                         {inside[1].data(), inside[2].data()}},
                        numbers, 2);
            for (ptrdiff_t i = 0; i < count; ++i) {
                double &w = exact[0][i], &first = exact[1][i], &second = exact[2][i];
                const double g = dw[i];
                if (rule == "sgd") {
                    w -= rate * g;
                } else if (rule == "momentum" || rule == "nesterov") {
                    first = c[0] * first - rate * g;
                    w += rule == "nesterov" ? c[0] * first - rate * g : first;
                } else if (rule == "rmsprop") {
                    first = c[0] * first + c[1] * g * g;
                    w -= rate * g / (std::sqrt(first) + c[2]);
                } else {
                    first = c[0] * first + c[1] * g;
                    second = c[2] * second + c[3] * g * g;
                    w -= rate * first / (std::sqrt(second * correction) + c[4]) + shrink * w;
                }
            }
        }
        for (int i = 0; i <= kernel->states; ++i) {
            compare(name, Correlation{}, inside[i], exact[i], 50);
            if (inside[i] == sets[1][i]) continue;
            ++failures;
            std::printf("%s in place differs from %s between two sets of arrays\n", name, name);
        }
    }
}

// Every task is done once, by however many threads.
static void check_tasks() {
    for (int threads : {1, 2, 3, 7, 64, 70})
        for (ptrdiff_t tasks : {0, 1, 2, 5, 63, 64, 65, 1000}) {
            std::vector<std::atomic<int>> done(static_cast<size_t>(tasks));
            gconv::for_each_task(threads, tasks, [&](ptrdiff_t task, int thread) {
                done[static_cast<size_t>(task)] += thread < threads ? 1 : 2;
            });
            if (std::all_of(done.begin(), done.end(), [](const auto& times) { return times == 1; })) continue;
            ++failures;
            std::printf("%td tasks on %d threads: not each of them once\n", tasks, threads);
        }
}

int main(int count, char** arguments) {
    const int cases = count > 1 ? std::atoi(arguments[1]) : 40;
    const gconv::Level* levels[3];
    const int usable = gconv::usable_levels(levels);
    check_tasks();
    for (int level = 0; level < usable; ++level) {
        gconv::use_level(*levels[level]);
        for (int i = 0; i < cases; ++i) {
            check_convolution<float>(i % 4 == 0);
            check_convolution<double>(i % 4 == 0);
            check_product<float>();
            check_product<double>();
            check_update_rules<float>();
            check_update_rules<double>();
        }
        std::printf("%s: %d cases, %d differences so far\n", gconv::level_name(), 6 * cases, failures);
    }
    return failures ? 1 : 0;
}
