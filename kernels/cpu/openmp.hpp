// OpenMP's presence, in a form that also compiles without it.
#pragma once
#ifdef _OPENMP
#include <omp.h>
namespace gconv {
inline int openmp_version() { return _OPENMP; }
inline int team_size(int requested) {
    int size = 1;
#pragma omp parallel num_threads(requested)
#pragma omp single
    size = omp_get_num_threads();
    return size;
}
}  // namespace gconv
#else
namespace gconv {
inline int openmp_version() { return 0; }
inline int team_size(int) { return 1; }
}  // namespace gconv
#endif
