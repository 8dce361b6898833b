# Wrappers of convolution and max pooling, and of both in one.

def im2col(const floating[:, :, :, ::1] x not None, floating[:, ::1] cols not None, geometry, int threads):
    """Write the columns of x (N, C, H, W) to cols (C*HH*WW, N*H'*W')."""
    cdef Correlation g = correlation_of(geometry)
    check("x", shape4(x), geometry.x)
    check("cols", (cols.shape[0], cols.shape[1]),
          (g.channels * g.field_height * g.field_width, x.shape[0] * g.out_height * g.out_width))
    with nogil:
        kernels_for(data4(x)).im2col(g, x.shape[0], data4(x), target2(cols), threads)


def col2im(const floating[:, ::1] cols not None, floating[:, :, :, ::1] x not None, geometry, int threads):
    """Write the sum of columns (C*HH*WW, N*H'*W') to x (N, C, H, W), the adjoint of im2col."""
    cdef Correlation g = correlation_of(geometry)
    check("x", shape4[floating](x), geometry.x)
    check("cols", (cols.shape[0], cols.shape[1]),
          (g.channels * g.field_height * g.field_width, x.shape[0] * g.out_height * g.out_width))
    with nogil:
        kernels_for(data2(cols)).col2im(g, x.shape[0], data2(cols), target4(x), threads)


def conv_forward(const floating[:, :, :, ::1] x not None, const floating[:, :, :, ::1] w not None,
                 const floating[::1] b, floating[:, :, :, ::1] out not None, geometry, bint relu,
                 int threads):
    """Write out (N, F, H', W') of x (N, C, H, W), w (F, C, HH, WW), b (F,) or None, negative values cut with relu."""
    cdef Correlation g = correlation_of(geometry)
    check("x", shape4(x), geometry.x)
    check("w", shape4(w), geometry.w)
    if b is not None:
        check_length("b", b.shape[0], w.shape[0])
    check("the output", shape4[floating](out), geometry.out)
    cdef bint worked = True
    if target4(out) != NULL:
        with nogil:
            worked = kernels_for(data4(x)).conv_forward(
                g, x.shape[0], w.shape[0], data4(x), data4(w), data1(b) if b is not None else NULL, relu, target4(out),
                threads)
    done(worked)


def conv_input_gradient(const floating[:, :, :, ::1] dout not None, const floating[:, :, :, ::1] w not None,
                        floating[:, :, :, ::1] dx not None, geometry, int threads):
    """Write dx (N, C, H, W) of dout (N, F, H', W') and w (F, C, HH, WW)."""
    cdef Correlation g = correlation_of(geometry)
    check("dout", shape4(dout), geometry.out)
    check("w", shape4(w), geometry.w)
    check("dx", shape4[floating](dx), geometry.x)
    cdef bint worked = True
    if target4(dx) != NULL:
        with nogil:
            worked = kernels_for(data4(dout)).conv_input_gradient(
                g, dx.shape[0], w.shape[0], data4(dout), data4(w), target4(dx), threads)
    done(worked)


def conv_filter_gradient(const floating[:, :, :, ::1] dout not None, const floating[:, :, :, ::1] x not None,
                         floating[:, :, :, ::1] dw not None, floating[::1] db not None, geometry, int threads):
    """Write dw (F, C, HH, WW) and db (F,) of dout (N, F, H', W') and x (N, C, H, W)."""
    cdef Correlation g = correlation_of(geometry)
    check("dout", shape4(dout), geometry.out)
    check("x", shape4(x), geometry.x)
    check("dw", shape4[floating](dw), geometry.w)
    check_length("db", db.shape[0], dw.shape[0])
    cdef bint worked = True
    if target1(db) != NULL:
        with nogil:
            worked = kernels_for(data4(dout)).conv_filter_gradient(
                g, x.shape[0], dw.shape[0], data4(dout), data4(x), target4(dw), target1(db), threads)
    done(worked)


def max_pool_forward(const floating[:, :, :, ::1] x not None, floating[:, :, :, ::1] out not None,
                     index_t[:, :, :, ::1] argmax not None, pool, int threads):
    """Write the maximum of each window to out and its place, row * pool_width + column, to argmax."""
    cdef Pool g = pool_of(pool)
    check("x", shape4(x), pool.x)
    check("the pooled array", shape4[floating](out), pool.out)
    check("argmax", places4[index_t](argmax), pool.out)
    cdef ptrdiff_t planes = x.shape[0] * x.shape[1]
    with nogil:
        if index_t is uint8_t:
            kernels_for(data4(x)).pool_bytes.forward(g, planes, data4(x), target4(out), places_target(argmax), threads)
        else:
            kernels_for(data4(x)).pool_ints.forward(g, planes, data4(x), target4(out), places_target(argmax), threads)


def max_pool_backward(const floating[:, :, :, ::1] dout not None, const floating[:, :, :, ::1] out,
                      const index_t[:, :, :, ::1] argmax not None, floating[:, :, :, ::1] dx not None, pool,
                      int threads):
    """Write dx, each gradient at the pixel of its maximum; with ``out``, only where that is positive."""
    cdef Pool g = pool_of(pool)
    check("dout", shape4(dout), pool.out)
    check("argmax", places4(argmax), pool.out)
    check("dx", shape4[floating](dx), pool.x)
    if out is not None:
        check("out", shape4(out), pool.out)
    cdef ptrdiff_t planes = dx.shape[0] * dx.shape[1]
    with nogil:
        if index_t is uint8_t:
            kernels_for(data4(dout)).pool_bytes.backward(
                g, planes, data4(dout), data4(out) if out is not None else NULL, places_data(argmax), target4(dx),
                threads)
        else:
            kernels_for(data4(dout)).pool_ints.backward(
                g, planes, data4(dout), data4(out) if out is not None else NULL, places_data(argmax), target4(dx),
                threads)


def conv_relu_pool_forward(const floating[:, :, :, ::1] x not None, const floating[:, :, :, ::1] w not None,
                           const floating[::1] b, floating[:, :, :, ::1] out not None,
                           index_t[:, :, :, ::1] argmax not None, conv, pool, int threads):
    """Write out and argmax (N, F, H'', W'') of convolution, with b (F,) or None, ReLU and max pooling."""
    cdef Correlation g = correlation_of(conv)
    cdef Pool p = pool_of(pool)
    check("x", shape4(x), conv.x)
    check("w", shape4(w), conv.w)
    if b is not None:
        check_length("b", b.shape[0], w.shape[0])
    check("the pooling's input", conv.out, pool.x)
    check("out", shape4[floating](out), pool.out)
    check("argmax", places4[index_t](argmax), pool.out)
    cdef ptrdiff_t n = x.shape[0], f = w.shape[0]
    cdef const floating* bias = data1(b) if b is not None else NULL
    cdef bint worked = True
    if target4(out) != NULL:
        with nogil:
            if index_t is uint8_t:
                worked = kernels_for(data4(x)).pool_bytes.conv_relu_forward(
                    g, p, n, f, data4(x), data4(w), bias, target4(out), places_target(argmax), threads)
            else:
                worked = kernels_for(data4(x)).pool_ints.conv_relu_forward(
                    g, p, n, f, data4(x), data4(w), bias, target4(out), places_target(argmax), threads)
    done(worked)


def conv_relu_pool_filter_gradient(
    const floating[:, :, :, ::1] dout not None, const floating[:, :, :, ::1] out not None,
    const index_t[:, :, :, ::1] argmax not None, const floating[:, :, :, ::1] x not None,
    floating[:, :, :, ::1] dw not None, floating[::1] db not None, conv, pool, int threads
) -> bool:
    """Write dw and db of conv_relu_pool_forward; return False, with nothing done, where the long way is better."""
    cdef Correlation g = correlation_of(conv)
    cdef Pool p = pool_of(pool)
    check("x", shape4(x), conv.x)
    check("dw", shape4[floating](dw), conv.w)
    check_length("db", db.shape[0], dw.shape[0])
    check("the pooling's input", conv.out, pool.x)
    check("dout", shape4(dout), pool.out)
    check("out", shape4(out), pool.out)
    check("argmax", places4(argmax), pool.out)
    cdef ptrdiff_t n = x.shape[0], f = dw.shape[0]
    if target4(dw) == NULL or not kernels_for(data4(dout)).has_pooled_filter_gradient(g, p, n, f):
        return False
    cdef bint worked
    with nogil:
        if index_t is uint8_t:
            worked = kernels_for(data4(dout)).pool_bytes.conv_relu_filter_gradient(
                g, p, n, f, data4(dout), data4(out), places_data(argmax), data4(x), target4(dw), target1(db), threads)
        else:
            worked = kernels_for(data4(dout)).pool_ints.conv_relu_filter_gradient(
                g, p, n, f, data4(dout), data4(out), places_data(argmax), data4(x), target4(dw), target1(db), threads)
    done(worked)
    return True
