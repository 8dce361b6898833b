# Wrappers of activations and update rules, on flat arrays; `out` may be `w`.

def relu_forward(const floating[::1] x not None, floating[::1] out not None, int threads):
    """Write the positive part of x."""
    check_length("out", out.shape[0], x.shape[0])
    with nogil:
        kernels_for(data1(x)).relu_forward(x.shape[0], data1(x), target1(out), threads)


def relu_backward(const floating[::1] dout not None, const floating[::1] x not None, floating[::1] dx not None,
                  int threads):
    """Write dout where x is positive, else 0."""
    check_length("dout", dout.shape[0], x.shape[0])
    check_length("dx", dx.shape[0], x.shape[0])
    with nogil:
        kernels_for(data1(x)).relu_backward(x.shape[0], data1(dout), data1(x), target1(dx), threads)


def sgd_step(const floating[::1] w not None, const floating[::1] dw not None, double rate,
             floating[::1] out not None, int threads):
    """Write w - rate * dw."""
    check_length("dw", dw.shape[0], w.shape[0])
    check_length("out", out.shape[0], w.shape[0])
    with nogil:
        kernels_for(data1(w)).sgd_step(w.shape[0], data1(w), data1(dw), rate, target1(out), threads)


def momentum_step(const floating[::1] w not None, const floating[::1] dw not None, floating[::1] velocity not None,
                  double rate, double momentum, bint nesterov, floating[::1] out not None, int threads):
    """Set v = momentum * v - rate * dw; write w + v, or with Nesterov's look-ahead."""
    check_length("dw", dw.shape[0], w.shape[0])
    check_length("velocity", velocity.shape[0], w.shape[0])
    check_length("out", out.shape[0], w.shape[0])
    with nogil:
        kernels_for(data1(w)).momentum_step(
            w.shape[0], data1(w), data1(dw), target1(velocity), rate, momentum, nesterov, target1(out), threads)


def rmsprop_step(const floating[::1] w not None, const floating[::1] dw not None, floating[::1] cache not None,
                 double rate, double decay, double epsilon, floating[::1] out not None, int threads):
    """Set cache = decay * cache + (1 - decay) dw^2; write w - rate * dw / (sqrt(cache) + epsilon)."""
    check_length("dw", dw.shape[0], w.shape[0])
    check_length("cache", cache.shape[0], w.shape[0])
    check_length("out", out.shape[0], w.shape[0])
    with nogil:
        kernels_for(data1(w)).rmsprop_step(
            w.shape[0], data1(w), data1(dw), target1(cache), rate, decay, 1 - decay, epsilon, target1(out), threads)


def adam_step(const floating[::1] w not None, const floating[::1] dw not None, floating[::1] m not None,
              floating[::1] v not None, double rate, double correction, double shrink, double beta1, double beta2,
              double epsilon, floating[::1] out not None, int threads):
    """Do a step of Adam: rate and correction include the bias of m and v, shrink is decoupled weight decay."""
    check_length("dw", dw.shape[0], w.shape[0])
    check_length("m", m.shape[0], w.shape[0])
    check_length("v", v.shape[0], w.shape[0])
    check_length("out", out.shape[0], w.shape[0])
    cdef AdamScalars[floating] scalars
    scalars.rate, scalars.correction, scalars.shrink, scalars.epsilon = rate, correction, shrink, epsilon
    scalars.beta1, scalars.rest1, scalars.beta2, scalars.rest2 = beta1, 1 - beta1, beta2, 1 - beta2
    with nogil:
        kernels_for(data1(w)).adam_step(
            w.shape[0], data1(w), data1(dw), target1(m), target1(v), scalars, target1(out), threads)


def l2_penalty(const floating[::1] w not None, double reg, floating[::1] dw not None, int threads) -> float:
    """Return the sum of squares of w, and add reg * w to dw."""
    check_length("dw", dw.shape[0], w.shape[0])
    cdef double total
    with nogil:
        total = kernels_for(data1(w)).l2_penalty(w.shape[0], data1(w), reg, target1(dw), threads)
    return total
