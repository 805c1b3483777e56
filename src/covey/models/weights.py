"""The two sides of one claim: the module computes with the master weights, rounded to its dtype."""

from __future__ import annotations

import torch

from covey.models.fingerprint import digest, digest_rounded
from covey.models.policy import Policy


@torch.no_grad()
def computed_with(policy: Policy) -> dict[str, str]:
    """A digest of every parameter as the module computes with it, by each of its names: a tied output
    head is there under its own, and has its own digest as soon as it is a tensor of its own."""
    digests: dict[int, str] = {}
    found: dict[str, str] = {}
    packed = dict(policy.dense.unpacked()) if policy.dense is not None else {}
    for name, parameter in policy.module.named_parameters(remove_duplicate=False):
        if name in packed:
            found[name] = digest(packed[name])
            continue
        if id(parameter) not in digests:
            digests[id(parameter)] = digest(parameter)
        found[name] = digests[id(parameter)]
    return found


def to_compute_with(policy: Policy) -> dict[str, str]:
    """The digests `computed_with` must find: of the master weights, rounded."""
    due = {name: digest_rounded(master, policy.dtype) for name, master in policy.master.items()}
    return due | {name: due[same] for name, same in policy.tied.items()}
