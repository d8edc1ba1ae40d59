"""Memory for large results: fresh 4 kB pages take longer to hand out than many operators take to fill them."""

import ctypes
import functools
import math
import sys
from collections.abc import Callable

from torch import Tensor

# below, an allocator has the memory at hand
LARGE = 1 << 20
PAGE, LARGE_PAGE = 4096, 1 << 21
# of sys/mman.h
MADV_HUGEPAGE = 14


def empty(*shape: int, like: Tensor) -> Tensor:
    """An uninitialised tensor with the dtype and device of `like`, in large pages where the system has them (Linux)."""
    size = math.prod(shape) * like.element_size()
    advise = _madvise()
    if not advise or not like.is_cpu or size < LARGE:
        return like.new_empty(shape)
    if size < 2 * LARGE_PAGE:
        tensor = like.new_empty(shape)
        start, end = -(-tensor.data_ptr() // PAGE) * PAGE, (tensor.data_ptr() + size) // PAGE * PAGE
    else:
        # whole large pages, or up to a thousand small ones stay at both ends
        room = -(-size // LARGE_PAGE) * LARGE_PAGE
        storage = like.new_empty((room + LARGE_PAGE) // like.element_size()).untyped_storage()
        start = -(-storage.data_ptr() // LARGE_PAGE) * LARGE_PAGE
        offset = (start - storage.data_ptr()) // like.element_size()
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        tensor = like.new_empty(0).set_(storage, offset, shape, strides)
        end = start + room
    # a request that the system may decline
    advise(start, end - start, MADV_HUGEPAGE)
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
