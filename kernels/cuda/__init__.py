"""CUDA sources of the gpu backend, compiled at run time by NVRTC (see gconv/backends/cuda_module.py)."""
