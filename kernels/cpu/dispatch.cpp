// The choice of an instruction set, at run time. The build defines GCONV_HAS_AVX2 and GCONV_HAS_AVX512 for the levels
// that the compiler could make.
#include "kernels.hpp"
#include "parallel.hpp"

namespace gconv {

#ifdef GCONV_HAS_AVX512
namespace avx512 {
extern const Level level;
}
#endif
#ifdef GCONV_HAS_AVX2
namespace avx2 {
extern const Level level;
}
#endif
namespace baseline {
extern const Level level;
}

int usable_levels(const Level** levels) {
    int count = 0;
#ifdef GCONV_HAS_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
        levels[count++] = &avx512::level;
#endif
#ifdef GCONV_HAS_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) levels[count++] = &avx2::level;
#endif
    levels[count++] = &baseline::level;
    return count;
}

static const Level*& current() {
    static const Level* level = [] {
        const Level* levels[3];
        usable_levels(levels);
        return levels[0];
    }();
    return level;
}

template <>
const Kernels<float>& kernels_for(const float*) {
    return *current()->float32;
}
template <>
const Kernels<double>& kernels_for(const double*) {
    return *current()->float64;
}
const LossKernels& loss_kernels() { return *current()->losses; }
const char* level_name() { return current()->name; }
void use_level(const Level& level) { current() = &level; }

Scratch& calling_threads_scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

}  // namespace gconv
