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
    return _plain_logits(policy, [token_ids])[0]


def _plain_logits(policy: Policy, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """The same of several in one pass: what pads a shorter one stands behind it, where it can't see it."""
    longest = max(map(len, sequences))
    rows = [[*ids, *[0] * (longest - len(ids))] for ids in sequences]
    with plain(policy):
        logits = policy.module(torch.tensor(rows, device=policy.device), use_cache=False).logits
    return [row[: len(ids)].float() for row, ids in zip(logits, sequences, strict=True)]


def compare(
    policy: Policy, prompt_ids: Sequence[int], completion: Completion, temperature: float = 1.0
) -> float:
    """Largest difference in nats between ``sampler_logp`` and a plain forward pass.

    ``temperature`` is the one it was sampled at; greedy completions report the untempered
    distribution, which is 1. A truncated one is compared over the ids that were kept.
    """
    if completion.sampler_logp is None:
        raise ValueError("the engine reported no log-probs")
    logits = plain_logits(policy, (*prompt_ids, *completion.token_ids))
    logits = logits[len(prompt_ids) - 1 : -1] / temperature
    if completion.kept is not None:
        cut = torch.ones_like(logits, dtype=torch.bool)
        for row, ids in enumerate(completion.kept):
            cut[row, list(ids)] = False
        logits = logits.masked_fill(cut, -torch.inf)
    logp = logits.log_softmax(1)
    chosen = torch.tensor(completion.token_ids, device=logp.device)
    mine = torch.tensor(completion.sampler_logp, device=logp.device)
    return (logp.gather(1, chosen[:, None])[:, 0] - mine).abs().max().item()


@torch.no_grad()
def verify_packing(policy: Policy, tolerance: float = 1e-3) -> None:
    """Raise CoveyError unless the packed forward pass gives this model's own logits.

    Two prompts with a common stem and three replies, packed, against the sequences run plainly. An
    architecture that does not go through `transformers`' attention interface, or puts something of
    its own behind its head, is found here rather than trained wrongly. ``tolerance`` is in standard
    deviations of the logits: in fp32 rounding is 1e-5 of them; in bf16 it would hide a fault.
    """
    count = min(policy.vocabulary, len(policy.tokenizer))
    ids = [(7919 * (i + 1)) % count for i in range(23)]
    # a stem of 8; a prompt of 10 with replies of 5 and 3; one of 9 with a reply of 4
    first, second, replies = ids[:10], [*ids[:8], *ids[18:19]], (ids[10:15], ids[15:18], ids[19:])
    tree = policy.tree([10, 9], [[5, 3], [4]], stem=8)
    try:
        packed = policy.logits(policy.hidden(torch.tensor(ids, device=policy.device), tree, tree.positions))
        prompts = (first, first, second)
        own = _plain_logits(policy, [[*p, *reply] for p, reply in zip(prompts, replies, strict=True)])
        worst = max(
            _distance(packed[places], logits[len(prompt) :])
            for places, logits, prompt in zip(tree.reply_tokens, own, prompts, strict=True)
        )
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise CoveyError(f"{_name(policy)} can't run packed: {error}") from error
    if not worst <= tolerance:
        raise CoveyError(
            f"{_name(policy)} can't be trained: run packed, its logits differ from transformers' own by "
            f"{worst:.1e} of their spread. Its attention does not follow transformers' attention interface"
        )


def _distance(packed: Tensor, own: Tensor) -> float:
    return ((packed - own).abs().max() / own.std()).item()


def _name(policy: Policy) -> str:
    return f"a model of type {policy.module.config.model_type!r}"
