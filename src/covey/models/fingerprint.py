"""What tensors hold, in a few bytes: equal digests mean equal bits, in shape, dtype and values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
import xxhash
from torch import Tensor


def fingerprint(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The digest of each tensor, by name. XXH3-128 keeps up with memory; see docs/adr/0006."""
    return {name: digest(tensor) for name, tensor in tensors.items()}


def digest(tensor: Tensor) -> str:
    """Of one tensor: dtype, shape, and the XXH3-128 of its values' bytes in hexadecimal."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    shape = "x".join(map(str, tensor.shape))
    return f"{str(tensor.dtype).removeprefix('torch.')}[{shape}] {xxhash.xxh3_128_hexdigest(values.data)}"


def joined(digests: Mapping[str, str]) -> str:
    """One digest of many: the SHA-256 of the lines ``name digest``, in order of the names."""
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()
