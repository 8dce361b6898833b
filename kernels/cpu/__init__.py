"""CPU kernels: C++ headers, and the Cython module over them."""
