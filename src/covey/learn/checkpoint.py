"""What of training goes into a checkpoint: fp32 master weights and the optimizer's state.

The rest of a run needs no saving: random draws are keyed by what they are for, learning rates by the
step, and where the stream of groups stands is a number that the caller keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from covey.learn.optimizer import Optimizer
from covey.models import Policy
from covey.models.fingerprint import fingerprint, joined
from covey.types import CoveyError

REFERENCE = "reference.safetensors"
"""Its fp32 weights, where the reference is neither the model that the run began with nor the policy."""

FILES = {"weights": "weights.safetensors", "optimizer": "optimizer.safetensors"}


def tensors(policy: Policy, optimizer: Optimizer) -> dict[str, Mapping[str, Tensor]]:
    """All that an optimizer step moves, as named tensors, under the keys of `FILES`."""
    return {"weights": policy.master, "optimizer": optimizer.state()}


def fingerprints(policy: Policy, optimizer: Optimizer) -> dict[str, str]:
    """A digest of each of `tensors`, for the chain."""
    return {part: joined(fingerprint(held)) for part, held in tensors(policy, optimizer).items()}


def contents(
    policy: Policy, optimizer: Optimizer, reference: Policy | None = None
) -> dict[str, Iterator[memoryview]]:
    """The files of a checkpoint, by name, piece by piece; nothing may move while they are read.

    reference: where it can't be had from anywhere else.
    """
    files = {FILES[part]: safetensors(held) for part, held in tensors(policy, optimizer).items()}
    return files | ({REFERENCE: safetensors(reference.master)} if reference else {})


def restore(
    folder: Path, policy: Policy, optimizer: Optimizer, version: int, reference: Policy | None = None
) -> None:
    """Bring back what `contents` saved. Raises CoveyError when it is of another model, and when a
    ``reference`` is to be brought back that isn't there.

    Values are copied into the tensors that are there, whose place in memory is the allocator's: the
    last bits of a matrix product may depend on how its operands are aligned.
    """
    weights, moments = (_read(folder / FILES[part]) for part in ("weights", "optimizer"))
    _same_model(folder, policy, weights)
    _take_over(policy, weights)
    policy.version = version
    optimizer.restore(moments)
    if reference is not None:
        weights = _read(folder / REFERENCE)
        _same_model(folder, reference, weights)
        _take_over(reference, weights)


@torch.no_grad()
def _take_over(policy: Policy, weights: Mapping[str, Tensor]) -> None:
    for name, master in policy.master.items():
        master.copy_(weights[name])
    policy.refresh()


def safetensors(held: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of a safetensors file, one tensor at a time, so that no second copy of all is made."""
    values = {name: held[name].detach().cpu().contiguous() for name in sorted(held)}
    header: dict[str, object] = {}
    end = 0
    for name, tensor in values.items():
        if tensor.dtype is not torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}: checkpoints hold float32")
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values begin at a multiple of 8 bytes
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for tensor in values.values():
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it isn't a mapping
    except (OSError, SafetensorError) as error:
        raise CoveyError(f"can't read {path}: {error}") from error


def _same_model(folder: Path, policy: Policy, weights: Mapping[str, Tensor]) -> None:
    for name in sorted(policy.master.keys() | weights.keys()):
        there, here = (
            list(held[name].shape) if name in held else "absent" for held in (weights, policy.master)
        )
        if there != here:
            raise CoveyError(
                f"checkpoint {folder} is of another model: {name} is {there} there and {here} in this run's; "
                "move it away, and resume from the one before"
            )
