"""From a recipe to the parts of a run. The only room that knows every other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import covey.types
from covey import kernels
from covey.algo import Algorithm, preset
from covey.build import watch
from covey.build.combined import parts_of
from covey.build.components import (
    build_draw,
    build_engine,
    build_reward,
    build_task,
    check_engine,
    own_functions,
)
from covey.build.conversation import chat_of, longest_reply, talk_of
from covey.build.mixed import rewards_of
from covey.config import Component, Recipe
from covey.evals.evaluate import Evaluator
from covey.learn import Optimizer, PolicyLearner, Schedule, footprint, unsupported
from covey.models import Policy, load_policy
from covey.models.loading import locate
from covey.protocols import Engine, Interactive, Reward, Sampler, Task, Weighted
from covey.records import code_version, environment, hash_file, hash_tree
from covey.rewards.gold import check_all
from covey.rollout import Mixed, Order, SynchronousSource, Uniform
from covey.types import CoveyError, Problem

GIB = 1 << 30
MOST_CHECKED = 20_000  # problems whose gold answers are read before a run


@dataclass(frozen=True)
class Parts:
    """What a recipe means, before any weights are loaded."""

    recipe: Recipe
    algorithm: Algorithm
    task: Task
    reward: Reward
    train: Sequence[Problem]
    heldout: tuple[Problem, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever starts a run should know: the task's lines and the reward's, each once."""
        both = (*getattr(self.task, "notes", ()), *getattr(self.reward, "notes", ()))
        return tuple(dict.fromkeys(both))


def prepare(recipe: Recipe, *, task: Task | None = None, reward: Reward | None = None) -> Parts:
    """Resolve and check everything that needs no weights. Raises CoveyError, naming the section.

    ``task`` and ``reward`` stand in for the recipe's when they were given as objects.
    """
    algorithm = algorithm_of(recipe)
    if (reason := unlearned(recipe, algorithm)) is not None:
        raise CoveyError(f"[algorithm] {reason}")
    watch.chosen(recipe)
    check_engine(recipe.rollout.engine)
    if recipe.model.name is not None:
        locate(recipe.model.name)
    task = task or build_task(recipe.task)
    reward = reward or build_reward(recipe.reward)
    problems, heldout = task.problems("train"), task.problems("heldout")
    if not len(problems):
        raise CoveyError(f"[task] {recipe.task.name!r} has no training problems")
    draw_of(recipe, task, len(problems))
    parts = Parts(recipe, algorithm, task, reward, problems, chosen(heldout, recipe.eval.problems))
    check_all(reward, [*some(problems, MOST_CHECKED), *parts.heldout])
    return parts


@contextmanager
def graders(parts: Parts) -> Iterator[None]:
    """No process that grades outlives what is inside."""
    try:
        yield
    finally:
        if callable(close := getattr(parts.reward, "close", None)):
            close()


@contextmanager
def prepared(recipe: Recipe) -> Iterator[Parts]:
    """`prepare`, for what needs the parts only inside: no process that grades outlives it."""
    parts = prepare(recipe)
    with graders(parts):
        yield parts


def some(problems: Sequence[Problem], most: int) -> list[Problem]:
    """All of them, or evenly spaced ones, ``most`` at most."""
    return [problems[i] for i in range(0, len(problems), max(1, -(-len(problems) // most)))]


def algorithm_of(recipe: Recipe) -> Algorithm:
    """The recipe's preset with its changes. Raises CoveyError for one that there isn't."""
    changes = own_functions(recipe.algorithm.changes)
    try:
        return preset(recipe.algorithm.preset).replace(**changes)
    except (ValueError, TypeError) as error:
        raise CoveyError(f"[algorithm] {error}") from error


GIVEN = {
    "nll": "answers that are given (supervised fine-tuning)",
    "luffy": "a teacher's traces beside the policy's own",
    "reverse_kl": "a teacher, and the reference here is the model itself",
}
"""Surrogates of other kinds of training, and what they learn from."""


def unlearned(recipe: Recipe, algorithm: Algorithm) -> str | None:
    """Why a run can't learn by an algorithm, or None when it can."""
    if recipe.algorithm.kl_in is not None and algorithm.kl is None:
        return "kl_in says where the KL goes, but there is none: choose a kl too"
    if recipe.train.reference_every and not algorithm.needs_reference:
        return "train.reference_every renews a reference, but nothing here compares with one: choose a kl too"
    if (reason := _leaps(recipe, algorithm)) is not None:
        return reason
    name = algorithm.surrogate.name
    if isinstance(name, str) and name in GIVEN:
        which = f"preset {recipe.algorithm.preset!r}: " if recipe.algorithm.surrogate is None else ""
        return f"{which}surrogate {name!r} needs {GIVEN[name]}; a run samples answers and learns from rewards"
    return unsupported(algorithm)


def _leaps(recipe: Recipe, algorithm: Algorithm) -> str | None:
    """Why a KL's coefficient can't be moved so fast: at five horizons a step it would turn negative."""
    control = algorithm.kl_control
    if control is None or control.name != "adaptive":
        return None
    sequences = recipe.rollout.problems_per_step * recipe.rollout.group_size
    horizon = control.params.get("horizon", 10_000)
    if sequences < 5 * horizon:
        return None
    return (
        f"kl_control's horizon = {horizon} is too short for steps of {sequences} sequences: a KL far below "
        f"its target would take the coefficient to 0 or under in one; take more than {sequences // 5}"
    )


def chosen(heldout: Sequence[Problem], count: int) -> tuple[Problem, ...]:
    """The held-out problems to measure on: the same ones whatever the run's seed, so that runs can
    be compared problem by problem."""
    if not len(heldout):
        return ()
    return tuple(heldout[i] for i in Order(len(heldout), seed=0).take(min(count, len(heldout))))


def policy_of(recipe: Recipe) -> Policy:
    """The recipe's model, loaded, on the recipe's threads."""
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    model = recipe.model
    return load_policy(model.name or model.config or {}, dtype=model.dtype, device=model.device)


def engine_of(recipe: Recipe, policy: Policy) -> Engine:
    return build_engine(recipe.rollout.engine, policy)


def learner_of(parts: Parts, policy: Policy) -> PolicyLearner:
    recipe = parts.recipe
    train = recipe.train
    optimizer = Optimizer(
        policy,
        Schedule(train.learning_rate, train.warmup_steps),
        weight_decay=train.weight_decay,
        betas=train.betas,
        max_grad_norm=train.max_grad_norm,
    )
    reference = reference_of(recipe) if parts.algorithm.needs_reference else None
    return PolicyLearner(
        policy,
        parts.algorithm,
        optimizer,
        budget=micro_batch_tokens(parts, policy),
        max_length=longest_reply(recipe, isinstance(parts.task, Interactive)),
        temperature=recipe.rollout.temperature,
        reference=reference,
        reference_every=train.reference_every,
        epochs=train.epochs,
        parts=train.mini_batches,
        seed=recipe.seed,
    )


def reference_of(recipe: Recipe) -> Policy:
    """The model that training starts from, frozen, in the dtype it computes in and no other, unless it
    is to be renewed."""
    reference = policy_of(recipe)
    reference.module.requires_grad_(False)
    if not recipe.train.reference_every:
        reference.master = {}  # nothing moves it
    return reference


def micro_batch_tokens(parts: Parts, policy: Policy, *, fused: bool | None = None) -> int:
    """Packed tokens per micro-batch, from the memory budget; for ``fused`` see `footprint`."""
    longest = longest_episode(parts, policy)
    size = footprint(policy, longest=longest, fused=fused, kept=parts.recipe.rollout.top_k)
    return size.tokens(parts.recipe.train.memory_gb * GIB)


def longest_episode(parts: Parts, policy: Policy) -> int:
    """Tokens of the longest sequence that can come of a rollout."""
    talk = talk_of(parts.recipe, parts.task, policy)
    longest = longest_prompt(parts, policy) + parts.recipe.rollout.max_new_tokens
    return max(longest, talk.limits.tokens or 0) if talk else longest


def longest_prompt(parts: Parts, policy: Policy, look: int = 16) -> int:
    """Tokens of the longest prompt, found among the ``look`` that are longest in characters.

    Raises CoveyError when it exceeds ``rollout.max_prompt_tokens``, or leaves no room in the
    model's context: better now than in the middle of the run.
    """
    recipe = parts.recipe
    everything = some(parts.train, 100_000) + list(parts.heldout)
    everything.sort(key=lambda p: -sum(len(str(m["content"])) for m in p.messages))
    chat = chat_of(parts.task, policy)
    sized = [(len(chat.prompt(p.messages)), p) for p in everything[:look]]
    tokens, problem = max(sized, key=lambda pair: pair[0])
    limit = recipe.rollout.max_prompt_tokens
    if limit is not None and tokens > limit:
        raise CoveyError(
            f"problem {problem.id!r} has a prompt of {tokens} tokens, more than rollout.max_prompt_tokens = "
            f"{limit}: raise the limit, or take the row out"
        )
    if tokens + recipe.rollout.max_new_tokens > policy.context:
        raise CoveyError(
            f"problem {problem.id!r}: {tokens} prompt tokens and rollout.max_new_tokens = "
            f"{recipe.rollout.max_new_tokens} exceed the model's context of {policy.context}; lower "
            "the latter or shorten the prompt"
        )
    return tokens


def draw_of(recipe: Recipe, task: Task, count: int) -> Uniform | Mixed:
    """What draws from a task's ``count`` training problems; from each part's, where it has several."""
    component = recipe.rollout.draw
    if not isinstance(task, Weighted):
        return build_draw(component, count, recipe.seed)
    counts, weights = zip(*task.shares(), strict=True)
    if sum(counts) != count:
        raise CoveyError(f"[task] its shares are of {sum(counts)} training problems, but it has {count}")
    return Mixed([build_draw(component, share, recipe.seed) for share in counts], counts, weights)


def source_of(parts: Parts, policy: Policy, engine: Engine, reward: Reward) -> SynchronousSource:
    recipe = parts.recipe
    return SynchronousSource(
        parts.train,
        engine,
        chat_of(parts.task, policy),
        reward,
        recipe.rollout.sampling,
        problems_per_step=recipe.rollout.problems_per_step,
        group_size=recipe.rollout.group_size,
        seed=recipe.seed,
        refills=recipe.rollout.refills,
        max_prompt_tokens=recipe.rollout.max_prompt_tokens,
        draw=draw_of(recipe, parts.task, len(parts.train)),
        talk=talk_of(recipe, parts.task, policy),
    )


def evaluator_of(parts: Parts, policy: Policy, engine: Sampler) -> Evaluator | None:
    """None when the task holds nothing out."""
    recipe = parts.recipe
    if not parts.heldout:
        return None
    return Evaluator(
        engine,
        chat_of(parts.task, policy),
        parts.reward,
        parts.heldout,
        samples=recipe.eval.samples,
        max_new_tokens=recipe.rollout.max_new_tokens,
        temperature=recipe.rollout.temperature,
        seed=recipe.seed,
        every=recipe.eval.every,
        last=recipe.steps,
        talk=talk_of(recipe, parts.task, policy),
    )


def manifest_of(parts: Parts, policy: Policy) -> dict[str, Any]:
    """All that decides the run's outcome, as JSON values."""
    recipe = parts.recipe
    gpu = torch.cuda.get_device_name(policy.device) if policy.device.type == "cuda" else None
    return {
        "recipe": recipe.model_dump(mode="json"),
        "algorithm": parts.algorithm.describe(),
        "model": {
            "parameters": sum(m.numel() for m in policy.master.values()),
            "dtype": str(policy.dtype).removeprefix("torch."),
            "device": policy.device.type,
            "sha256": model_hash(recipe),
        },
        "data": {
            "train": {"problems": len(parts.train), "sha256": problems_hash(parts.train)},
            "heldout": {"problems": len(parts.heldout), "sha256": problems_hash(parts.heldout)},
        },
        **({"reward_models": models} if (models := reward_models(recipe.reward)) else {}),
        "sentinels": watch.described(recipe),
        "code": code_version(Path(covey.types.__file__).parent),
        "environment": environment(threads=torch.get_num_threads(), gpu=gpu, kernels=_kernels(policy)),
    }


def _kernels(policy: Policy) -> str | None:
    """Which compiled kernels the policy computes with, where it does."""
    return kernels.identity() if kernels.usable(policy.head.weight) else None


def reward_models(component: Component) -> dict[str, str | None]:
    """Of each reward model in a reward, however deep it stands: its name → the hash of its folder, None for
    one that has no folder here."""
    found: dict[str, str | None] = {}
    if component.name == "combine":
        for part in parts_of(component.params.get("parts")):
            found |= reward_models(part.component)
    elif component.name == "by_part":
        for part in rewards_of(component).values():
            found |= reward_models(part)
    elif component.name == "reward_model":
        name = str(component.params.get("model"))
        found[name] = hash_tree(Path(name)) if Path(name).is_dir() else None
    return found


def model_hash(recipe: Recipe) -> str | None:
    """Of the file or folder the weights came from; None for a hub id (its cache names the commit)
    and for a model made from its config, which the recipe fixes."""
    if recipe.model.name is None:
        return None
    where, gguf = locate(recipe.model.name)
    path = Path(where) / gguf if gguf else Path(where)
    if not path.exists():
        return None
    return hash_file(path) if path.is_file() else hash_tree(path)


def problems_hash(problems: Sequence[Problem], most: int = 100_000) -> str:
    """Of ids, messages and answers, the first ``most`` of them."""
    digest = hashlib.sha256()
    for i in range(min(len(problems), most)):
        p = problems[i]
        row = [p.id, [dict(m) for m in p.messages], p.answer]
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
