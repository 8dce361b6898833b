# What the wrappers check, the kernels writing through raw pointers, and the first element's address.

cdef check(str name, found, expected):
    if tuple(found) != tuple(expected):
        raise ValueError(f"{name} must have shape {tuple(expected)}; got {tuple(found)}")


cdef int check_length(str name, ptrdiff_t found, ptrdiff_t expected) except -1:
    if found != expected:
        raise ValueError(f"{name} must have length {expected}; got {found}")
    return 0


cdef shape3(const floating[:, :, ::1] a):
    return a.shape[0], a.shape[1], a.shape[2]


cdef shape4(const floating[:, :, :, ::1] a):
    return a.shape[0], a.shape[1], a.shape[2], a.shape[3]


cdef places4(const index_t[:, :, :, ::1] a):
    return a.shape[0], a.shape[1], a.shape[2], a.shape[3]


# The first element's address; an array without elements has none to look at.
cdef const floating* data4(const floating[:, :, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0, 0] if a.shape[0] and a.shape[1] and a.shape[2] and a.shape[3] else NULL


cdef const floating* data3(const floating[:, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0] if a.shape[0] and a.shape[1] and a.shape[2] else NULL


cdef const floating* data2(const floating[:, ::1] a) noexcept nogil:
    return &a[0, 0] if a.shape[0] and a.shape[1] else NULL


cdef const floating* data1(const floating[::1] a) noexcept nogil:
    return &a[0] if a.shape[0] else NULL


cdef const index_t* places_data(const index_t[:, :, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0, 0] if a.shape[0] and a.shape[1] and a.shape[2] and a.shape[3] else NULL


cdef floating* target4(floating[:, :, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0, 0] if a.shape[0] and a.shape[1] and a.shape[2] and a.shape[3] else NULL


cdef floating* target3(floating[:, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0] if a.shape[0] and a.shape[1] and a.shape[2] else NULL


cdef floating* target2(floating[:, ::1] a) noexcept nogil:
    return &a[0, 0] if a.shape[0] and a.shape[1] else NULL


cdef floating* target1(floating[::1] a) noexcept nogil:
    return &a[0] if a.shape[0] else NULL


cdef index_t* places_target(index_t[:, :, :, ::1] a) noexcept nogil:
    return &a[0, 0, 0, 0] if a.shape[0] and a.shape[1] and a.shape[2] and a.shape[3] else NULL


cdef Correlation correlation_of(shape, field, stride, pad) except *:
    cdef Correlation g
    g.channels, g.height, g.width = shape[1], shape[2], shape[3]
    g.field_height, g.field_width = field
    g.stride_y, g.stride_x = stride
    g.pad_y, g.pad_x = pad
    if min(g.field_height, g.field_width, g.stride_y, g.stride_x) < 1 or min(g.pad_y, g.pad_x) < 0:
        raise ValueError(f"field and stride must be positive, pad not negative; got {field}, {stride}, {pad}")
    if g.height + 2 * g.pad_y < g.field_height or g.width + 2 * g.pad_x < g.field_width:
        raise ValueError(f"field must fit into the padded image; got field {field}, image {tuple(shape)}, pad {pad}")
    g.out_height = 1 + (g.height + 2 * g.pad_y - g.field_height) // g.stride_y
    g.out_width = 1 + (g.width + 2 * g.pad_x - g.field_width) // g.stride_x
    return g


cdef Correlation convolution_of(x_shape, w_shape, out_shape, stride, pad) except *:
    cdef Correlation g = correlation_of(x_shape, w_shape[2:], stride, pad)
    check("w", w_shape, (w_shape[0], g.channels, *w_shape[2:]))
    check("the output", out_shape, (x_shape[0], w_shape[0], g.out_height, g.out_width))
    return g


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
    check("the pooled array", out_shape, (shape[0], shape[1], g.out_height, g.out_width))
    return g


cdef Pool pool_after(Correlation g, out_shape, window, stride) except *:
    return pool_of((out_shape[0], out_shape[1], g.out_height, g.out_width), out_shape, window, stride)


cdef done(bint worked):
    if not worked:
        raise MemoryError("no memory for the kernel's working space")
