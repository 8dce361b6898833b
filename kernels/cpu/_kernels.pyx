# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
# distutils: language = c++
"""Thin wrappers over the C++ kernels: shapes are checked, the GIL is released, the results' arrays are written to.

Every array is C-contiguous, ``threads`` the most that a call uses. Results do not depend on it.
"""
from cpython.buffer cimport PyBuffer_FillInfo
from cython cimport floating
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint8_t

__all__ = [
    "batchnorm_backward", "batchnorm_test", "batchnorm_train", "Block", "col2im", "conv_filter_gradient",
    "conv_forward", "conv_input_gradient", "conv_relu_pool_filter_gradient", "conv_relu_pool_forward", "gather_rows",
    "im2col",
    "l2_penalty", "matrix_product", "max_pool_backward", "max_pool_forward", "openmp_version",
    "relu_backward", "relu_forward", "simd_level", "simd_levels", "softmax_loss",
    "svm_loss", "team_has_run", "team_size", "update", "use_simd_level",
]

ctypedef fused index_t:
    uint8_t
    int32_t

cdef extern from "kernels.hpp" namespace "gconv" nogil:
    cdef struct Correlation:
        ptrdiff_t channels, height, width, field_height, field_width, stride_y, stride_x, pad_y, pad_x
        ptrdiff_t out_height, out_width

    cdef struct Pool:
        ptrdiff_t height, width, pool_height, pool_width, stride_y, stride_x, out_height, out_width

    cdef struct ChannelShape:
        ptrdiff_t images, channels, pixels

    cdef cppclass Matrix[T]:
        const T* data
        ptrdiff_t row, column

    int MAX_STATES, MAX_SCALARS, MAX_CONSTANTS

    cdef cppclass UpdateArrays[T]:
        const T* w
        const T* dw
        const T** states
        T* out
        T** new_states

    cdef cppclass UpdateNumbers[T]:
        T* scalars
        T* constants

    cdef cppclass UpdateKernel[T]:
        int states
        void run(ptrdiff_t, const UpdateArrays[T]&, const UpdateNumbers[T]&, int)

    cdef cppclass PoolKernels[T, I]:
        void forward(const Pool&, ptrdiff_t, const T*, T*, I*, int)
        void backward(const Pool&, ptrdiff_t, const T*, const T*, const I*, T*, int)
        bint conv_relu_forward(const Correlation&, const Pool&, ptrdiff_t, ptrdiff_t, const T*, const T*, const T*, T*,
                               I*, int)
        bint conv_relu_filter_gradient(const Correlation&, const Pool&, ptrdiff_t, ptrdiff_t, const T*, const T*,
                                       const I*, const T*, T*, T*, int)

    cdef cppclass Kernels[T]:
        void im2col(const Correlation&, ptrdiff_t, const T*, T*, int)
        void col2im(const Correlation&, ptrdiff_t, const T*, T*, int)
        bint conv_forward(const Correlation&, ptrdiff_t, ptrdiff_t, const T*, const T*, const T*, bint, T*, int)
        bint conv_input_gradient(const Correlation&, ptrdiff_t, ptrdiff_t, const T*, const T*, T*, int)
        bint conv_filter_gradient(const Correlation&, ptrdiff_t, ptrdiff_t, const T*, const T*, T*, T*, int)
        PoolKernels[T, uint8_t] pool_bytes
        PoolKernels[T, int32_t] pool_ints
        bint has_pooled_filter_gradient(const Correlation&, const Pool&, ptrdiff_t, ptrdiff_t)
        bint matrix_product(ptrdiff_t, ptrdiff_t, ptrdiff_t, const Matrix[T]&, const Matrix[T]&, const T*, bint, T*,
                            int)
        void relu_forward(ptrdiff_t, const T*, T*, int)
        void relu_backward(ptrdiff_t, const T*, const T*, T*, int)
        void batchnorm_train(const ChannelShape&, const T*, const T*, const T*, double, bint, T*, T*, T*, int)
        void batchnorm_test(const ChannelShape&, const T*, const T*, const T*, const T*, const T*, double, bint, T*,
                            int)
        void batchnorm_backward(const ChannelShape&, const T*, const T*, const T*, const T*, const T*, const T*,
                                double, T*, T*, T*, int)
        const UpdateKernel[T]* update_kernel(const char*)
        double l2_penalty(ptrdiff_t, const T*, T, T*, int)

    cdef cppclass LossKernels:
        double softmax(ptrdiff_t, ptrdiff_t, const float*, const int64_t*, float*)
        double svm(ptrdiff_t, ptrdiff_t, const float*, const int64_t*, float*)

    cdef struct Level:
        const char* name

    # Two functions, not a template: Cython before 3.3 takes its T of a const pointer to be const.
    const Kernels[float]& kernels_for(const float*)
    const Kernels[double]& kernels_for(const double*)
    const LossKernels& loss_kernels()
    int usable_levels(const Level**)
    const char* level_name()
    void use_level(const Level&)

cdef extern from "parallel.hpp" namespace "gconv" nogil:
    int c_openmp_version "gconv::openmp_version"()
    int c_team_size "gconv::team_size"(int)
    bint c_team_has_run "gconv::team_has_run.load"()

cdef extern from "rows.hpp" namespace "gconv" nogil:
    void c_gather_rows "gconv::gather_rows"(ptrdiff_t, ptrdiff_t, const uint8_t*, const int64_t*, uint8_t*, int)

cdef extern from "recycled.hpp" namespace "gconv" nogil:
    cdef cppclass RecycledMemory:
        @staticmethod
        RecycledMemory& shared()
        @staticmethod
        size_t rounded(size_t)
        void* take(size_t)
        void give(void*, size_t)


def openmp_version() -> int:
    """Return the date of the OpenMP standard in the build (201511, say), 0 without OpenMP."""
    return c_openmp_version()


def team_size(int requested) -> int:
    """Return how many threads a parallel region that asks for ``requested`` really gets."""
    return c_team_size(requested)


def team_has_run() -> bool:
    """Return whether several threads have been at work in this process, or in the one that it was forked from."""
    return c_team_has_run()


def simd_levels() -> tuple[str, ...]:
    """Return the instruction sets that this build and this processor have, the best one first."""
    cdef const Level* levels[3]
    return tuple(levels[i].name.decode() for i in range(usable_levels(levels)))


def simd_level() -> str:
    """Return the instruction set in use."""
    return level_name().decode()


def use_simd_level(str name) -> None:
    """Use an instruction set, one of simd_levels(), from the next call on."""
    cdef const Level* levels[3]
    for i in range(usable_levels(levels)):
        if levels[i].name.decode() == name:
            use_level(levels[i][0])
            return
    raise ValueError(f"use_simd_level: name must be one of {', '.join(simd_levels())}; got {name!r}")


cdef class Block:
    """Writable memory of ``size`` bytes for an array, given to the next one when the last view of it is gone."""

    cdef void* _data
    cdef size_t _rounded
    cdef Py_ssize_t _size

    def __cinit__(self, size_t size):
        self._size = size
        self._rounded = RecycledMemory.rounded(size)
        self._data = RecycledMemory.shared().take(self._rounded)
        if self._data == NULL:
            raise MemoryError(f"no memory for an array of {size} bytes")

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._data, self._size, 0, flags)

    def __dealloc__(self):
        if self._data != NULL:
            RecycledMemory.shared().give(self._data, self._rounded)


include "checks.pxi"
include "convolution.pxi"
include "layers.pxi"
include "elementwise.pxi"
