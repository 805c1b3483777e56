"""Groups as an engine and a grader would leave them, from small random models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from covey.algo import Algorithm, preset
from covey.engines import LocalEngine
from covey.learn import Optimizer, PolicyLearner, Schedule
from covey.models import Policy, load_policy
from covey.types import Completion, DrawKey, Episode, Group, Problem, Request, Sampling, Score, Turn

MOST = 8
"""Tokens that a completion may have."""


@pytest.fixture
def policy_of() -> Callable[..., Policy]:
    """A fresh policy: these tests train it."""

    def build(dtype: str = "float32", **config: Any) -> Policy:
        small = {"family": "llama", "hidden_size": 32, "intermediate_size": 48, "seed": 1}
        return load_policy({**small, **config}, dtype=dtype)

    return build


@pytest.fixture
def rollout() -> Callable[..., list[Group]]:
    """``rollout(policy, [(1.0, 0.0), (None, 1.0, 0.5)])``: a group for each tuple of rewards, sampled by
    the policy itself; prompts and replies are of unequal length."""

    def sample(
        policy: Policy, rewards: Sequence[Sequence[float | None]], temperature: float = 1.0, **cut: float
    ) -> list[Group]:
        problems = [
            Problem(f"p{n}", ({"role": "user", "content": f"what is {n}" + "?" * (3 * n)},))
            for n in range(len(rewards))
        ]
        prompts = [policy.chat.prompt(problem.messages) for problem in problems]
        asked = [
            Request(prompt, Sampling(MOST, temperature, **cut), DrawKey(0, 0, problem.id, s))
            for problem, prompt, values in zip(problems, prompts, rewards, strict=True)
            for s in range(len(values))
        ]
        answers = dict(LocalEngine(policy).generate(asked))
        groups, at = [], 0
        for problem, prompt, values in zip(problems, prompts, rewards, strict=True):
            episodes = []
            for s in range(len(values)):
                # cut to a length of its own, so that no two weights are alike by chance
                episodes.append(
                    Episode(problem, s, (Turn(prompt, shorter(answers[at + s], 2 + (s * 5) % 7)),))
                )
            at += len(values)
            groups.append(Group(problem, tuple(episodes), tuple(Score(value) for value in values)))
        return groups

    return sample


def shorter(completion: Completion, length: int) -> Completion:
    logp = completion.sampler_logp
    assert logp is not None
    kept = None if completion.kept is None else completion.kept[:length]
    return Completion(completion.token_ids[:length], logp[:length], completion.stop, 0, kept=kept)


@pytest.fixture
def learner_of() -> Callable[..., PolicyLearner]:
    """A learner of any preset, with one micro-batch unless ``budget`` says otherwise."""

    def build(
        policy: Policy,
        algorithm: str | Algorithm = "modern",
        *,
        budget: int = 10**6,
        learning_rate: float = 1e-2,
        reference: Policy | None = None,
        temperature: float = 1.0,
        **optimizer: Any,
    ) -> PolicyLearner:
        return PolicyLearner(
            policy,
            preset(algorithm) if isinstance(algorithm, str) else algorithm,
            Optimizer(policy, Schedule(learning_rate), **optimizer),
            budget=budget,
            max_length=MOST,
            reference=reference,
            temperature=temperature,
        )

    return build
