"""The GRPO family: pure functions of tensors, and the presets that choose among them."""

from __future__ import annotations

from covey.algo.algorithm import Algorithm
from covey.algo.batch import Step, StepTokens, TokenBatch, TokenLoss
from covey.algo.choice import Choice
from covey.algo.objective import advantages, reward_penalty, select_tokens, token_loss, token_weights
from covey.algo.presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "Algorithm",
    "Choice",
    "Step",
    "StepTokens",
    "TokenBatch",
    "TokenLoss",
    "advantages",
    "preset",
    "reward_penalty",
    "select_tokens",
    "token_loss",
    "token_weights",
]
