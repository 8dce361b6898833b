# Wrappers of activations and update rules, on flat arrays.

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


def update(str rule not None, const floating[::1] w not None, const floating[::1] dw not None,
           tuple states not None, tuple scalars not None, tuple constants not None,
           floating[::1] out not None, tuple new_states not None, int threads):
    """Do a step of the update rule whose kernels have this name; what is written may be what is read."""
    cdef bytes name = rule.encode()
    cdef const UpdateKernel[floating]* kernel = kernels_for(data1(w)).update_kernel(name)
    if kernel == NULL:
        raise ValueError(f"rule must have a kernel; got {rule!r}")
    if not len(states) == len(new_states) == kernel.states:
        raise ValueError(f"states must be {kernel.states} for {rule}; got {len(states)}, {len(new_states)}")
    if len(scalars) > MAX_SCALARS or len(constants) > MAX_CONSTANTS:
        raise ValueError(
            f"scalars and constants must be {MAX_SCALARS} and {MAX_CONSTANTS} at most; got {scalars}, {constants}")
    check_length("dw", dw.shape[0], w.shape[0])
    check_length("out", out.shape[0], w.shape[0])
    cdef UpdateArrays[floating] arrays
    cdef UpdateNumbers[floating] numbers
    cdef const floating[::1] state
    cdef floating[::1] new_state
    cdef int i
    arrays.w, arrays.dw, arrays.out = data1(w), data1(dw), target1(out)
    for i in range(kernel.states):
        state, new_state = states[i], new_states[i]
        check_length("a state", state.shape[0], w.shape[0])
        check_length("a new state", new_state.shape[0], w.shape[0])
        # The tuples keep the arrays.
        arrays.states[i], arrays.new_states[i] = data1(state), target1(new_state)
    for i in range(MAX_SCALARS):
        numbers.scalars[i] = scalars[i] if i < len(scalars) else 0
    for i in range(MAX_CONSTANTS):
        numbers.constants[i] = constants[i] if i < len(constants) else 0
    with nogil:
        kernel.run(w.shape[0], arrays, numbers, threads)


def l2_penalty(const floating[::1] w not None, double reg, floating[::1] dw not None, int threads) -> float:
    """Return the sum of squares of w, and add reg * w to dw."""
    check_length("dw", dw.shape[0], w.shape[0])
    cdef double total
    with nogil:
        total = kernels_for(data1(w)).l2_penalty(w.shape[0], data1(w), reg, target1(dw), threads)
    return total


def gather_rows(const uint8_t[:, ::1] x not None, const int64_t[::1] indices not None, uint8_t[:, ::1] out not None,
                int threads):
    """Write the rows of x that the indices name; all in bytes."""
    check_length("out", out.shape[0], indices.shape[0])
    check_length("a row of out", out.shape[1], x.shape[1])
    cdef ptrdiff_t i
    for i in range(indices.shape[0]):
        if not 0 <= indices[i] < x.shape[0]:
            raise IndexError(f"indices must be in [0, {x.shape[0]}); got {indices[i]}")
    if out.shape[0] and out.shape[1]:
        with nogil:
            c_gather_rows(out.shape[0], out.shape[1], &x[0, 0], &indices[0], &out[0, 0], threads)
