"""Memory for large results: fresh 4 kB pages take longer to hand out than many operators take to fill them."""

import ctypes
import functools
import sys
from collections.abc import Callable

from torch import Tensor

# below, an allocator has the memory at hand
LARGE = 1 << 20
PAGE = 4096
# of sys/mman.h
MADV_HUGEPAGE = 14


def empty(*shape: int, like: Tensor) -> Tensor:
    """An uninitialised tensor with the dtype and device of `like`, in large pages where the system has them (Linux)."""
    tensor = like.new_empty(shape)
    advise = _madvise()
    if advise and tensor.is_cpu and tensor.nbytes >= LARGE:
        start = -(-tensor.data_ptr() // PAGE) * PAGE
        # a request that the system may decline
        advise(start, (tensor.data_ptr() + tensor.nbytes - start) // PAGE * PAGE, MADV_HUGEPAGE)
    return tensor


def empty_like(tensor: Tensor) -> Tensor:
    """`empty` of the same shape, contiguous."""
    return empty(*tensor.shape, like=tensor)


def zeros_like(tensor: Tensor) -> Tensor:
    """The same with zeros."""
    return empty_like(tensor).zero_()


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return madvise
