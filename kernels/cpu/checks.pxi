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


# Raises unless a window has exactly ``out`` places along an axis.
cdef int check_axis(ptrdiff_t size, ptrdiff_t field, ptrdiff_t stride, ptrdiff_t pad, ptrdiff_t out) except -1:
    if field < 1 or stride < 1 or pad < 0 or size < 0:
        raise ValueError(f"field and stride must be positive, pad not negative; got {field}, {stride}, {pad}")
    if size + 2 * pad < field:
        raise ValueError(f"field must fit into the padded image; got field {field}, image {size}, pad {pad}")
    if (size + 2 * pad - field) // stride != out - 1:
        raise ValueError(f"the output must have {1 + (size + 2 * pad - field) // stride} places; got {out}")
    return 0


# A named tuple seen as a plain one, which is taken apart without an iterator.
cdef inline tuple fields(geometry):
    if not isinstance(geometry, tuple):
        raise TypeError(f"geometry must be a named tuple of gconv.geometry; got {type(geometry).__name__}")
    return <tuple>geometry


# The numbers of a ConvGeometry, which is not trusted: it may have been made without its checks.
cdef Correlation correlation_of(geometry) except *:
    cdef Correlation g
    x, w, out, stride, pad, dilation, groups = fields(geometry)
    images, g.channels, g.height, g.width = x
    filters, channels, g.field_height, g.field_width = w
    g.stride_y, g.stride_x = stride
    g.pad_y, g.pad_x = pad
    out_images, out_filters, g.out_height, g.out_width = out
    if dilation != (1, 1) or groups != 1:
        raise ValueError(f"dilation and groups must be 1; got {dilation}, {groups}")
    if channels != g.channels or out_images != images or out_filters != filters:
        raise ValueError(f"w and out must have shapes that match x {x}; got {w}, {out}")
    check_axis(g.height, g.field_height, g.stride_y, g.pad_y, g.out_height)
    check_axis(g.width, g.field_width, g.stride_x, g.pad_x, g.out_width)
    return g


# The numbers of a PoolGeometry, which is not trusted either.
cdef Pool pool_of(pool) except *:
    cdef Pool g
    x, out, window, stride = fields(pool)
    images, channels, g.height, g.width = x
    out_images, out_channels, g.out_height, g.out_width = out
    g.pool_height, g.pool_width = window
    g.stride_y, g.stride_x = stride
    if out_images != images or out_channels != channels:
        raise ValueError(f"out must have a shape that matches x {x}; got {out}")
    check_axis(g.height, g.pool_height, g.stride_y, 0, g.out_height)
    check_axis(g.width, g.pool_width, g.stride_x, 0, g.out_width)
    return g


cdef done(bint worked):
    if not worked:
        raise MemoryError("no memory for the kernel's working space")
