// Rows of a table, copied.
#pragma once
#include <cstdint>
#include <cstring>

#include "parallel.hpp"

namespace gconv {

// out[i] = x[indices[i]], in rows of `bytes`.
inline void gather_rows(ptrdiff_t count, ptrdiff_t bytes, const uint8_t* x, const int64_t* indices, uint8_t* out,
                        int threads) {
    const ptrdiff_t block = 1 + 16384 / bytes, blocks = (count + block - 1) / block;
    for_each_task(threads, blocks, [=](ptrdiff_t task, int) {
        const ptrdiff_t end = task + 1 == blocks ? count : (task + 1) * block;
        for (ptrdiff_t i = task * block; i < end; ++i) std::memcpy(out + i * bytes, x + indices[i] * bytes, bytes);
    });
}

}  // namespace gconv
