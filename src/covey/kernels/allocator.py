"""What the C library does with memory that is given back."""

from __future__ import annotations

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's names for them, from malloc.h


@functools.cache
def keep_memory() -> bool:
    """Have freed memory kept for the next tensor instead of handed back to the system; whether that worked.

    An update frees and takes gigabytes of activations. Handed back, each page of them is cleared and mapped
    again at its next use: a quarter of the time of a step. The peak stays what it was.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library than glibc, without this call or its meaning
        return False
    return all((mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, 64 << 20)))
