# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# distutils: language = c++
"""Thin wrappers over the C++ kernels: shapes are checked, the GIL is released, planes go to threads.

Every array is C-contiguous. The partition over planes does not change a result: one thread owns a plane.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

__all__ = ["col2im_add", "im2col_into", "max_pool_backward_add", "max_pool_forward_into", "openmp_version", "team_size"]

ctypedef fused index_t:
    uint8_t
    int32_t

cdef extern from "im2col.hpp" namespace "gconv" nogil:
    cdef struct Window:
        ptrdiff_t height, width, field_height, field_width, stride_y, stride_x, pad_y, pad_x, out_width

    void im2col_plane[T](const T*, const Window&, ptrdiff_t, ptrdiff_t, T*, ptrdiff_t)
    void col2im_plane_add[T](const T*, ptrdiff_t, const Window&, ptrdiff_t, ptrdiff_t, T*)

cdef extern from "max_pool.hpp" namespace "gconv" nogil:
    cdef struct Pool:
        ptrdiff_t height, width, pool_height, pool_width, stride_y, stride_x, out_height, out_width

    void max_pool_plane[T, I](const T*, const Pool&, T*, I*)
    void max_pool_plane_backward[T, I](const T*, const I*, const Pool&, T*)

cdef extern from "openmp.hpp" namespace "gconv" nogil:
    int c_openmp_version "gconv::openmp_version"()
    int c_team_size "gconv::team_size"(int)


def openmp_version() -> int:
    """Return the date of the OpenMP standard in the build (201511, say), 0 without OpenMP."""
    return c_openmp_version()


def team_size(int requested) -> int:
    """Return how many threads a parallel region that asks for ``requested`` really gets."""
    return c_team_size(requested)


cdef Window window_of(shape, field, stride, pad) except *:
    cdef Window g
    g.height, g.width = shape[2], shape[3]
    g.field_height, g.field_width = field
    g.stride_y, g.stride_x = stride
    g.pad_y, g.pad_x = pad
    if min(g.field_height, g.field_width, g.stride_y, g.stride_x) < 1 or min(g.pad_y, g.pad_x) < 0:
        raise ValueError(f"field and stride must be positive, pad not negative; got {field}, {stride}, {pad}")
    if g.height + 2 * g.pad_y < g.field_height or g.width + 2 * g.pad_x < g.field_width:
        raise ValueError(f"field must fit into the padded image; got field {field}, image {tuple(shape)}, pad {pad}")
    g.out_width = 1 + (g.width + 2 * g.pad_x - g.field_width) // g.stride_x
    return g


cdef check_columns(shape, cols_shape, Window g, ptrdiff_t y_begin, ptrdiff_t y_end):
    out_height = 1 + (g.height + 2 * g.pad_y - g.field_height) // g.stride_y
    if not 0 <= y_begin <= y_end <= out_height:
        raise ValueError(f"rows must lie in [0, {out_height}]; got [{y_begin}, {y_end})")
    expected = (shape[1] * g.field_height * g.field_width, shape[0] * (y_end - y_begin) * g.out_width)
    if tuple(cols_shape) != expected:
        raise ValueError(f"cols must have shape {expected}; got {tuple(cols_shape)}")


def im2col_into(const floating[:, :, :, ::1] x not None, floating[:, ::1] cols not None, tuple field, tuple stride,
                tuple pad, ptrdiff_t y_begin, ptrdiff_t y_end, int threads):
    """Write the columns of x for the output rows [y_begin, y_end) to cols, (C*HH*WW, N*rows*W')."""
    shape = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    cdef Window g = window_of(shape, field, stride, pad)
    check_columns(shape, (cols.shape[0], cols.shape[1]), g, y_begin, y_end)
    if cols.shape[0] == 0 or cols.shape[1] == 0:
        return
    cdef ptrdiff_t channels = x.shape[1], planes = x.shape[0] * channels, plane = g.height * g.width
    cdef ptrdiff_t rows = g.field_height * g.field_width, per_image = (y_end - y_begin) * g.out_width
    cdef ptrdiff_t ld = cols.shape[1], i
    # An image without pixels has no first element to point at; its columns are padding alone.
    cdef const floating* source = &x[0, 0, 0, 0] if plane else NULL
    cdef floating* target = &cols[0, 0]
    for i in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        im2col_plane(source + i * plane, g, y_begin, y_end,
                     target + (i % channels) * rows * ld + (i // channels) * per_image, ld)


def col2im_add(const floating[:, ::1] cols not None, floating[:, :, :, ::1] x not None, tuple field, tuple stride,
               tuple pad, ptrdiff_t y_begin, ptrdiff_t y_end, int threads):
    """Add the columns of the output rows [y_begin, y_end) back into x, the adjoint of im2col_into."""
    shape = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    cdef Window g = window_of(shape, field, stride, pad)
    check_columns(shape, (cols.shape[0], cols.shape[1]), g, y_begin, y_end)
    cdef ptrdiff_t channels = x.shape[1], planes = x.shape[0] * channels, plane = g.height * g.width
    if cols.shape[0] == 0 or cols.shape[1] == 0 or plane == 0:
        return
    cdef ptrdiff_t rows = g.field_height * g.field_width, per_image = (y_end - y_begin) * g.out_width
    cdef ptrdiff_t ld = cols.shape[1], i
    cdef const floating* source = &cols[0, 0]
    cdef floating* target = &x[0, 0, 0, 0]
    for i in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        col2im_plane_add(source + (i % channels) * rows * ld + (i // channels) * per_image, ld, g,
                         y_begin, y_end, target + i * plane)


cdef Pool pool_of(shape, out_shape, window, stride) except *:
    cdef Pool g
    g.height, g.width = shape[2], shape[3]
    g.pool_height, g.pool_width = window
    g.stride_y, g.stride_x = stride
    if min(g.pool_height, g.pool_width, g.stride_y, g.stride_x) < 1:
        raise ValueError(f"window and stride must be positive; got {window}, {stride}")
    if g.pool_height > g.height or g.pool_width > g.width:
        raise ValueError(f"window must fit into the image; got window {window}, image {tuple(shape)}")
    g.out_height = 1 + (g.height - g.pool_height) // g.stride_y
    g.out_width = 1 + (g.width - g.pool_width) // g.stride_x
    expected = (shape[0], shape[1], g.out_height, g.out_width)
    if tuple(out_shape) != expected:
        raise ValueError(f"the pooled array must have shape {expected}; got {tuple(out_shape)}")
    return g


def max_pool_forward_into(const floating[:, :, :, ::1] x not None, floating[:, :, :, ::1] out not None,
                          index_t[:, :, :, ::1] argmax not None, tuple window, tuple stride, int threads):
    """Write the maximum of each window to out and its place, row * pool_width + column, to argmax."""
    shape = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    cdef Pool g = pool_of(shape, (out.shape[0], out.shape[1], out.shape[2], out.shape[3]), window, stride)
    pool_of(shape, (argmax.shape[0], argmax.shape[1], argmax.shape[2], argmax.shape[3]), window, stride)
    cdef ptrdiff_t planes = x.shape[0] * x.shape[1], i
    if planes == 0:
        return
    cdef ptrdiff_t in_plane = g.height * g.width, out_plane = g.out_height * g.out_width
    cdef const floating* source = &x[0, 0, 0, 0]
    cdef floating* target = &out[0, 0, 0, 0]
    cdef index_t* places = &argmax[0, 0, 0, 0]
    for i in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        max_pool_plane(source + i * in_plane, g, target + i * out_plane, places + i * out_plane)


def max_pool_backward_add(const floating[:, :, :, ::1] dout not None, const index_t[:, :, :, ::1] argmax not None,
                          floating[:, :, :, ::1] dx not None, tuple window, tuple stride, int threads):
    """Add each gradient in dout to the pixel of dx that its window's maximum came from."""
    shape = (dx.shape[0], dx.shape[1], dx.shape[2], dx.shape[3])
    cdef Pool g = pool_of(shape, (dout.shape[0], dout.shape[1], dout.shape[2], dout.shape[3]), window, stride)
    pool_of(shape, (argmax.shape[0], argmax.shape[1], argmax.shape[2], argmax.shape[3]), window, stride)
    cdef ptrdiff_t planes = dx.shape[0] * dx.shape[1], i
    if planes == 0:
        return
    cdef ptrdiff_t in_plane = g.height * g.width, out_plane = g.out_height * g.out_width
    cdef const floating* source = &dout[0, 0, 0, 0]
    cdef const index_t* places = &argmax[0, 0, 0, 0]
    cdef floating* target = &dx[0, 0, 0, 0]
    for i in prange(planes, nogil=True, num_threads=threads, schedule="static"):
        max_pool_plane_backward(source + i * out_plane, places + i * out_plane, g, target + i * in_plane)
