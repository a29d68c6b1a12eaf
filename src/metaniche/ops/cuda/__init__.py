"""Tensors on a GPU in, tensors out: the host side of the kernels in `csrc/cuda`.

One file per op allocates, launches and says where it cannot run; `launch` checks every argument against the kernel's
spec before a `Machine` runs it. May import errors and ops only.
"""
