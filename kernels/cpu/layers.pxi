# Wrappers of affine layers, batch normalisation and losses.

def matrix_product(const floating[:, ::1] a not None, bint turn_a, const floating[:, ::1] b not None, bint turn_b,
                   const floating[::1] bias, floating[:, ::1] out not None, bint relu, int threads):
    """Write a @ b + bias to out, a or b transposed first where its ``turn`` is set; bias may be None."""
    cdef ptrdiff_t rows = a.shape[1] if turn_a else a.shape[0], depth = a.shape[0] if turn_a else a.shape[1]
    cdef ptrdiff_t columns = b.shape[0] if turn_b else b.shape[1]
    check("b", (b.shape[0], b.shape[1]), (columns, depth) if turn_b else (depth, columns))
    check("out", (out.shape[0], out.shape[1]), (rows, columns))
    if bias is not None:
        check("bias", (bias.shape[0],), (columns,))
    cdef Matrix[floating] left, right
    left.data, left.row, left.column = data2(a), 1 if turn_a else a.shape[1], a.shape[1] if turn_a else 1
    right.data, right.row, right.column = data2(b), 1 if turn_b else b.shape[1], b.shape[1] if turn_b else 1
    cdef bint worked = True
    if target2(out) != NULL:
        with nogil:
            worked = kernels_for(data1(bias) if bias is not None else NULL).matrix_product(
                rows, columns, depth, left, right, data1(bias) if bias is not None else NULL, relu, target2(out),
                threads)
    done(worked)


def batchnorm_train(const floating[:, :, ::1] x not None, const floating[::1] gamma not None,
                    const floating[::1] beta not None, double eps, bint relu, floating[:, :, ::1] out not None,
                    floating[::1] mean not None, floating[::1] var not None, int threads):
    """Write x (N, C, P) normalised with its mean and variance (C,) over N and P, and these; x is not empty."""
    cdef ChannelShape s = ChannelShape(x.shape[0], x.shape[1], x.shape[2])
    check_length("gamma", gamma.shape[0], x.shape[1])
    check_length("beta", beta.shape[0], x.shape[1])
    check_length("mean", mean.shape[0], x.shape[1])
    check_length("var", var.shape[0], x.shape[1])
    check("out", shape3[floating](out), shape3(x))
    if data3(x) != NULL:
        with nogil:
            kernels_for(data3(x)).batchnorm_train(
                s, data3(x), data1(gamma), data1(beta), eps, relu, target3(out), target1(mean), target1(var), threads)


def batchnorm_test(const floating[:, :, ::1] x not None, const floating[::1] gamma not None,
                   const floating[::1] beta not None, const floating[::1] mean not None,
                   const floating[::1] var not None, double eps, bint relu, floating[:, :, ::1] out not None,
                   int threads):
    """Write x (N, C, P) normalised with the given mean and variance (C,)."""
    cdef ChannelShape s = ChannelShape(x.shape[0], x.shape[1], x.shape[2])
    check_length("gamma", gamma.shape[0], x.shape[1])
    check_length("beta", beta.shape[0], x.shape[1])
    check_length("mean", mean.shape[0], x.shape[1])
    check_length("var", var.shape[0], x.shape[1])
    check("out", shape3[floating](out), shape3(x))
    if data3(x) != NULL:
        with nogil:
            kernels_for(data3(x)).batchnorm_test(
                s, data3(x), data1(gamma), data1(beta), data1(mean), data1(var), eps, relu, target3(out), threads)


def batchnorm_backward(const floating[:, :, ::1] dout not None, const floating[:, :, ::1] out,
                       const floating[:, :, ::1] x not None, const floating[::1] gamma not None,
                       const floating[::1] mean not None, const floating[::1] var not None, double eps,
                       floating[:, :, ::1] dx not None, floating[::1] dgamma not None, floating[::1] dbeta not None,
                       int threads):
    """Write the gradients of batchnorm_train; with ``out``, that of a ReLU after it. x is not empty."""
    cdef ChannelShape s = ChannelShape(x.shape[0], x.shape[1], x.shape[2])
    check_length("gamma", gamma.shape[0], x.shape[1])
    check_length("mean", mean.shape[0], x.shape[1])
    check_length("var", var.shape[0], x.shape[1])
    check_length("dgamma", dgamma.shape[0], x.shape[1])
    check_length("dbeta", dbeta.shape[0], x.shape[1])
    check("dout", shape3(dout), shape3(x))
    check("dx", shape3[floating](dx), shape3(x))
    if out is not None:
        check("out", shape3[floating](out), shape3(x))
    if data3(x) != NULL:
        with nogil:
            kernels_for(data3(dout)).batchnorm_backward(
                s, data3(dout), data3(out) if out is not None else NULL, data3(x), data1(gamma), data1(mean),
                data1(var), eps, target3(dx), target1(dgamma), target1(dbeta), threads)


cdef bint labels_fit(const int64_t[::1] y, ptrdiff_t samples, ptrdiff_t classes) noexcept nogil:
    cdef ptrdiff_t i
    if y.shape[0] != samples or samples < 1:
        return False
    for i in range(samples):
        if y[i] < 0 or y[i] >= classes:
            return False
    return True


def softmax_loss(const float[:, ::1] x not None, const int64_t[::1] y not None,
                 float[:, ::1] dx not None) -> float:
    """Return the mean cross entropy of scores x (N, C) and labels y (N,), and write its gradient; N > 0."""
    check("dx", (dx.shape[0], dx.shape[1]), (x.shape[0], x.shape[1]))
    if not labels_fit(y, x.shape[0], x.shape[1]):
        raise ValueError(f"y must hold {x.shape[0]} labels in [0, {x.shape[1]})")
    return <float>loss_kernels().softmax(x.shape[0], x.shape[1], &x[0, 0], &y[0], &dx[0, 0])


def svm_loss(const float[:, ::1] x not None, const int64_t[::1] y not None, float[:, ::1] dx not None) -> float:
    """Return the mean multiclass hinge loss of scores x (N, C) and labels y (N,), and write its gradient; N > 0."""
    check("dx", (dx.shape[0], dx.shape[1]), (x.shape[0], x.shape[1]))
    if not labels_fit(y, x.shape[0], x.shape[1]):
        raise ValueError(f"y must hold {x.shape[0]} labels in [0, {x.shape[1]})")
    return <float>loss_kernels().svm(x.shape[0], x.shape[1], &x[0, 0], &y[0], &dx[0, 0])
