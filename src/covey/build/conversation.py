"""What a task with environments needs of a run: a chat that goes on, and where it ends at the latest."""

from __future__ import annotations

from covey.config import Recipe
from covey.models import Policy
from covey.models.chat import ChatFormat
from covey.models.dialogue import Conversation
from covey.protocols import Interactive, Task
from covey.rollout import Limits, Talk


def longest_reply(recipe: Recipe, talks: bool) -> int:
    """Tokens that the policy chooses in one episode, at most; ``talks`` is whether it has an environment."""
    turns = recipe.rollout.max_turns if talks else 1
    return turns * recipe.rollout.max_new_tokens


def chat_of(task: Task, policy: Policy) -> ChatFormat:
    """What renders a task's prompts: with its tools, where it has environments. Raises CoveyError when the
    model's chat template doesn't suit them."""
    if not isinstance(task, Interactive):
        return policy.chat
    return Conversation(policy.tokenizer, policy.end_ids, task.tools())


def talk_of(recipe: Recipe, task: Task, policy: Policy) -> Talk | None:
    """A task's environments with their limits, where it has them."""
    if not isinstance(task, Interactive):
        return None
    tokens = min(recipe.rollout.max_episode_tokens or policy.context, policy.context)
    return Talk(task, Limits(recipe.rollout.max_turns, tokens))
