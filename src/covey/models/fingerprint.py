"""What tensors hold, in a few bytes: equal digests mean equal bits, in shape, dtype and values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import torch
import xxhash
from torch import Tensor

_PIECE = 1 << 18


def fingerprint(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The digest of each tensor, by name. XXH3-128 keeps up with memory; see docs/adr/0006."""
    return {name: digest(tensor) for name, tensor in tensors.items()}


def digest(tensor: Tensor) -> str:
    """Of one tensor: dtype, shape, and the XXH3-128 of its values' bytes in hexadecimal."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return _written(tensor.dtype, tensor.shape, xxhash.xxh3_128_hexdigest(values.data))


def digest_rounded(tensor: Tensor, dtype: torch.dtype) -> str:
    """``digest(tensor.to(dtype))``, piece by piece: what is rounded never leaves the processor's cache."""
    if tensor.dtype is dtype:
        return digest(tensor)
    state = xxhash.xxh3_128()
    for piece in tensor.detach().contiguous().reshape(-1).split(_PIECE):
        state.update(piece.to(dtype).cpu().view(torch.uint8).numpy().data)
    return _written(dtype, tensor.shape, state.hexdigest())


def joined(digests: Mapping[str, str]) -> str:
    """One digest of many: the SHA-256 of the lines ``name digest``, in order of the names."""
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def _written(dtype: torch.dtype, shape: Sequence[int], values: str) -> str:
    return f"{str(dtype).removeprefix('torch.')}[{'x'.join(map(str, shape))}] {values}"
