// Functions of one value that have no instruction of their own.
#pragma once
#include <cmath>

#include "simd.hpp"

namespace gconv {
namespace GCONV_LEVEL {

template <typename T>
GCONV_INLINE Vector<T> square_root(Vector<T> v) {
    // The compiler makes one instruction of the loop.
    T lanes[LANES<T>];
    store(lanes, v);
    for (int i = 0; i < LANES<T>; ++i) lanes[i] = std::sqrt(lanes[i]);
    return load(lanes);
}

}  // namespace GCONV_LEVEL
}  // namespace gconv
