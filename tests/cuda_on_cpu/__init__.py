"""Runs real CuPy arrays and gconv's CUDA kernels on a machine without a GPU, every memory access checked.

- ``emulator.Module`` compiles a .cu file with g++ and runs its kernels thread by thread: bounds, races,
  uninitialised shared memory, divergent barriers and undefined behaviour raise ``KernelError``.
- ``cupy_host.install()`` gives CuPy host memory: real ``cupy.ndarray`` objects, the operations gconv uses
  computed by NumPy, kernels run by the emulator, streams that record graphs.

What it says nothing about: speed, registers and occupancy (see nvrtc_check.py), the driver, and rounding, which
differs from a GPU's (no fused multiply-add, another libm). Not supported: atomics, dynamic shared memory, votes,
textures, half precision, inline PTX, tensor cores. Linux and GNU C++ only.
"""
