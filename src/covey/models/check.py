"""Holding the packed model against plain `transformers`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from covey.models import attention
from covey.models.policy import Policy
from covey.types import Completion, CoveyError


@contextlib.contextmanager
def plain(policy: Policy) -> Iterator[None]:
    """The module as `transformers` runs it by itself."""
    policy.module.set_attn_implementation("eager")
    try:
        yield
    finally:
        policy.module.set_attn_implementation(attention.NAME)


@torch.no_grad()
def plain_logits(policy: Policy, token_ids: Sequence[int]) -> Tensor:
    """fp32 logits ``[T, vocabulary]`` of one sequence by a plain forward pass."""
    with plain(policy):
        return policy.module(torch.tensor([list(token_ids)], device=policy.device)).logits[0].float()


def compare(policy: Policy, prompt_ids: Sequence[int], completion: Completion) -> float:
    """Largest difference in nats between ``sampler_logp`` (temperature 1) and a plain forward pass."""
    if completion.sampler_logp is None:
        raise ValueError("the engine reported no log-probs")
    logits = plain_logits(policy, (*prompt_ids, *completion.token_ids))
    logp = logits[len(prompt_ids) - 1 : -1].log_softmax(1)
    chosen = torch.tensor(completion.token_ids, device=logp.device)
    mine = torch.tensor(completion.sampler_logp, device=logp.device)
    return (logp.gather(1, chosen[:, None])[:, 0] - mine).abs().max().item()


@torch.no_grad()
def verify_packing(policy: Policy, tolerance: float | None = None) -> None:
    """Raise CoveyError unless the packed forward pass gives this model's own logits.

    A prompt with two replies, packed, against the two sequences run plainly. An architecture that
    does not go through `transformers`' attention interface, or puts something of its own behind
    its head, is found here rather than trained wrongly.
    """
    limit = tolerance or (2e-3 if policy.dtype == torch.float32 else 0.25)
    count = min(policy.vocabulary, len(policy.tokenizer))
    ids = [(7919 * (i + 1)) % count for i in range(17)]
    prompt, replies = ids[:9], (ids[9:14], ids[14:])
    tree = policy.tree([9], [[5, 3]])
    try:
        packed = policy.logits(policy.hidden(torch.tensor(ids, device=policy.device), tree, tree.positions))
        worst = max(
            (packed[places] - plain_logits(policy, [*prompt, *reply])[9:]).abs().max().item()
            / max(1.0, packed[places].abs().max().item())
            for places, reply in zip(tree.reply_tokens, replies, strict=True)
        )
    except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise CoveyError(f"{_name(policy)} can't run packed: {error}") from error
    if not worst <= limit:
        raise CoveyError(
            f"{_name(policy)} can't be trained: run packed, its logits differ from transformers' own by "
            f"{worst:.1e} of their size. Its attention does not follow transformers' attention interface"
        )


def _name(policy: Policy) -> str:
    return f"a model of type {policy.module.config.model_type!r}"
