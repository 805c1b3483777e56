"""Reward terms that are a function of lengths alone."""

from __future__ import annotations

import torch

from covey.algo.batch import PerSequence, SequenceIndex


def overlong_penalty(lengths: SequenceIndex, *, max_length: int = 20480, cache: int = 4096) -> PerSequence:
    """The soft overlong punishment (DAPO 2503.14476 eq. 13), to be added to the reward (float64).

    0 up to ``max_length - cache`` tokens, then linear down to -1 at ``max_length`` and beyond.
    """
    over = (lengths - (max_length - cache)).clamp(min=0).to(torch.float64)
    return -(over / cache).clamp(max=1)
