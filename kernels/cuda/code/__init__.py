"""What runs on the device: kernels in Numba-CUDA, one module a family.

Modules here import the language they are written in (`language`), formulas shared with the CPU
kernels, and one another; nothing of CuPy, and nothing of the host functions beside this package.
They are imported only where a kernel is to be compiled.
"""
