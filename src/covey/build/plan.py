"""A dry run: what a recipe resolves to, what it will cost, what the model will read."""

from __future__ import annotations

from typing import Any

from covey import kernels
from covey.build import assemble
from covey.build.conversation import chat_of
from covey.config import Recipe
from covey.learn import footprint
from covey.models import Policy
from covey.models.chat import ChatFormat
from covey.models.loading import pick_device, sketch


def plan(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe, batch and memory arithmetic, and two rendered prompts, as JSON values.

    No weights are loaded: the model is sketched from its config. Raises CoveyError as `train` would.
    """
    with assemble.prepared(recipe) as parts:
        return _planned(recipe, parts)


def _planned(recipe: Recipe, parts: assemble.Parts) -> dict[str, Any]:
    policy = sketch(recipe.model.name or recipe.model.config or {}, recipe.model.dtype, recipe.model.device)
    longest = assemble.longest_prompt(parts, policy)
    episode = assemble.longest_episode(parts, policy)
    fused = kernels.why_not() is None and pick_device(recipe.model.device).type == "cpu"
    rollout = recipe.rollout
    cost = footprint(policy, longest=episode, fused=fused, kept=rollout.top_k)
    completions = rollout.problems_per_step * rollout.group_size
    micro = cost.tokens(recipe.train.memory_gb * assemble.GIB)
    most = rollout.problems_per_step * longest + completions * (episode - longest)
    return {
        "recipe": recipe.model_dump(mode="json"),
        "algorithm": parts.algorithm.describe(),
        "model": {
            "parameters": sum(m.numel() for m in policy.master.values()),
            "dtype": str(policy.dtype).removeprefix("torch."),
            "context": policy.context,
            "end_tokens": sorted(policy.end_ids),
        },
        "data": {"train": len(parts.train), "heldout": len(parts.heldout), **_notes(parts)},
        "batch": {
            "problems_per_step": rollout.problems_per_step,
            "group_size": rollout.group_size,
            "completions_per_step": completions,
            "with_refills_at_most": completions * (1 + rollout.refills),
            "longest_prompt_tokens": longest,
            "tokens_trained_at_most": most,
            "micro_batch_tokens": micro,
            "micro_batches_at_most": -(-most // micro),
        },
        "memory_gb": {
            "weights_gradients_optimizer": _gb(cost.weights),
            "activations_budget": recipe.train.memory_gb,
            "activations_per_1000_tokens": _gb(1000 * cost.per_token),
            "reference_model": _gb(_reference(recipe, policy)) if parts.algorithm.needs_reference else None,
        },
        "prompts": [
            _prompt(chat_of(parts.task, policy), parts.train[i].messages)
            for i in range(min(2, len(parts.train)))
        ],
    }


def _notes(parts: assemble.Parts) -> dict[str, str]:
    """What the task and the reward have to say, a run would say it too."""
    return {f"note_{n}": note for n, note in enumerate(parts.notes, start=1)}


def _reference(recipe: Recipe, policy: Policy) -> int:
    """Bytes of a second, frozen copy in the dtype it computes in; beside its fp32 weights, which go into
    checkpoints, where it is renewed."""
    own = 4 if recipe.train.reference_every and policy.dtype.itemsize < 4 else 0
    return (policy.dtype.itemsize + own) * sum(m.numel() for m in policy.master.values())


def _prompt(chat: ChatFormat, messages: Any) -> dict[str, Any]:
    ids = chat.prompt(messages)
    return {"tokens": len(ids), "text": chat.raw(ids)}


def _gb(count: float) -> float:
    return round(count / assemble.GIB, 2)
