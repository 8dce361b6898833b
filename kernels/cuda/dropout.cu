// Inverted dropout (Srivastava et al., 2014).

// mask = keep * scale, out = x * mask; keep holds 0 or 1, drawn on the host.
extern "C" __global__ void KERNEL(dropout_forward)(const real* x, const unsigned char* keep, real* out, real* mask,
                                                   index_t size, real scale) {
    GRID_STRIDE(i, size) {
        const real factor = keep[i] ? scale : real(0);
        mask[i] = factor;
        out[i] = x[i] * factor;
    }
}
