// The part of CUDA C++ that gconv's kernels use, for g++: put before a .cu file's text, it makes the file run on a CPU.
// A launch is one OS thread; every CUDA thread of a block is a fiber of it (fibers.cpp).
#pragma once
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};

extern "C" {
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
void emu_barrier(int line);
void emu_syncwarp(unsigned mask);
const void* emu_exchange(unsigned mask, const void* value, int size, int source_lane);  // the source lane's value
int emu_lane();
void emu_trap(const char* what, int line);
int emu_run(void (*thread_main)(void*), void* argument);
}
#define EMU_RAW __attribute__((noinline, no_sanitize("thread")))

#define __CUDA_ARCH__ 900
#define __global__
#define __noinline__
#define __device__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
// Static storage of the only OS thread: blocks run one after another, and each finds garbage in it.
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
constexpr int warpSize = 32;

#define __syncthreads() emu_barrier(__LINE__)
inline void __syncwarp(unsigned mask = 0xffffffffu) { emu_syncwarp(mask); }
#undef assert
#define assert(condition) ((condition) ? (void)0 : emu_trap("assertion failed: " #condition, __LINE__))

// Shuffles of a whole warp.
namespace emulated {
template <class T>
EMU_RAW T exchange(unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= 16, "shuffle of more than 16 bytes");
    T result;
    memcpy(&result, emu_exchange(mask, &value, sizeof(T), source), sizeof(T));
    return result;
}
}  // namespace emulated
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
    const int lane = emu_lane(), source = lane + (int)delta;
    return emulated::exchange(mask, value, source > 31 ? lane : source);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return emulated::exchange(mask, value, emu_lane() ^ bits);
}

// Mathematics that <cmath> does not put into the global namespace.
inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
using std::exp;
using std::log;
using std::sqrt;

// Launches any kernel from an array of pointers to its arguments, and describes its parameters for the loader.
namespace emulated {
template <class T>
const char* code() {
    using Plain = std::remove_cv_t<T>;
    constexpr int log_size = sizeof(Plain) == 1 ? 0 : sizeof(Plain) == 2 ? 1 : sizeof(Plain) == 4 ? 2 : 3;
    constexpr const char *floating[] = {"?", "f2", "f4", "f8"}, *with_sign[] = {"i1", "i2", "i4", "i8"},
                         *unsigned_[] = {"u1", "u2", "u4", "u8"};
    if constexpr (std::is_floating_point_v<Plain>)
        return floating[log_size];
    else if constexpr (std::is_integral_v<Plain>)
        return std::is_signed_v<Plain> ? with_sign[log_size] : unsigned_[log_size];
    else
        return "V";  // a structure
}
template <class Parameter>
void describe(char* text) {
    if constexpr (std::is_pointer_v<Parameter>) {
        using Element = std::remove_pointer_t<Parameter>;
        sprintf(text + strlen(text), "%sP%s ", std::is_const_v<Element> ? "c" : "", code<Element>());
    } else {
        sprintf(text + strlen(text), "%s:%d ", code<Parameter>(), (int)sizeof(Parameter));
    }
}
template <class... P>
void signature(void (*)(P...), char* text) {
    *text = 0;
    (describe<P>(text), ...);
}
template <class... P>
struct Call {
    void (*kernel)(P...);
    void** arguments;
};
template <class... P, size_t... I>
EMU_RAW void invoke(const Call<P...>* call, std::index_sequence<I...>) {
    call->kernel(*static_cast<std::remove_reference_t<P>*>(call->arguments[I])...);
}
template <class... P>
int launch(void (*kernel)(P...), void** arguments) {
    Call<P...> call{kernel, arguments};
    return emu_run([](void* c) { invoke((const Call<P...>*)c, std::index_sequence_for<P...>{}); }, &call);
}
}  // namespace emulated
#define EMU_EXPORT extern "C" __attribute__((visibility("default")))
#define EMU_KERNEL(name)                                                                                \
    EMU_EXPORT int emu_launch_##name(void** arguments) { return ::emulated::launch(&name, arguments); } \
    EMU_EXPORT void emu_signature_##name(char* text) { ::emulated::signature(&name, text); }
