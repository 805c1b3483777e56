"""From groups to what is trained: advantages, a weight per token, micro-batches.

Everything that a split could change is fixed here, once for the whole optimizer step; micro-batches
only decide how much is computed at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from covey.algo import Algorithm, advantages, token_weights
from covey.models import Kept, Policy
from covey.models.tree import Tree, shared_stem
from covey.types import CoveyError, Episode, Group, Sample, StopReason


@dataclass(frozen=True, slots=True)
class Trained:
    """One episode on its way through the update. ``reply`` is all that follows the shared prompt:
    chosen tokens, and in a conversation the environment's between them; ``chosen`` marks the
    former. ``weight`` is each chosen token's share of its optimizer step's loss; ``kept`` are the ids
    that truncated sampling kept at each. The last three are what a look before the update found
    (`covey.learn.look`), where there was one."""

    group: int
    sample: int
    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    chosen: tuple[bool, ...]
    sampler_logp: tuple[float, ...]
    advantage: float
    weight: float
    kept: tuple[tuple[int, ...], ...] | None = None
    old_logp: tuple[float, ...] = ()
    ref_logp: tuple[float, ...] = ()
    selected: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Whole sequences that go through the model at once, packed as a `Tree`."""

    sequences: tuple[Trained, ...]

    @property
    def tokens(self) -> int:
        """Packed tokens: each prompt once, then its replies."""
        return sum(len(p) + sum(map(len, replies)) for p, replies in self._by_prompt())

    def _by_prompt(self) -> list[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
        """Neighbours of one group share a prompt."""
        trees: list[tuple[int, tuple[int, ...], list[tuple[int, ...]]]] = []
        for s in self.sequences:
            if not trees or trees[-1][0] != s.group:
                trees.append((s.group, s.prompt, []))
            trees[-1][2].append(s.reply)
        return [(prompt, replies) for _, prompt, replies in trees]

    def pack(self, policy: Policy) -> Packed:
        """Lay the sequences out for the model, on its device."""
        by_prompt = self._by_prompt()
        stem = shared_stem([p for p, _ in by_prompt])
        lengths = [[len(r) for r in replies] for _, replies in by_prompt]
        tree = policy.tree([len(p) for p, _ in by_prompt], lengths, stem=stem)
        own = [t for prompt, replies in by_prompt for part in (prompt[stem:], *replies) for t in part]
        token_ids = torch.tensor([*by_prompt[0][0][:stem], *own], device=policy.device)
        last = [int(tree.last_of_prompt[i]) for i, (_, rs) in enumerate(by_prompt) for _ in rs]
        predictors, chosen, sequence = [], [], []
        for i, (s, places) in enumerate(zip(self.sequences, tree.reply_tokens, strict=True)):
            # a token is predicted by the one before it; the first of a reply by its prompt's last
            before = torch.cat([places.new_tensor([last[i]]), places[:-1]])
            mask = torch.tensor(s.chosen, device=places.device)
            predictors.append(before[mask])
            chosen.append(token_ids[places[mask]])
            sequence.append(torch.full((int(mask.sum()),), i, device=places.device))
        picked = torch.cat(chosen)
        kept = self._kept(picked)
        return Packed(tree, token_ids, torch.cat(predictors), picked, torch.cat(sequence), kept)

    def _kept(self, chosen: Tensor) -> Kept | None:
        several = [s.kept for s in self.sequences]
        if all(kept is None for kept in several):
            return None
        if any(kept is None for kept in several):
            raise CoveyError("some sequences were sampled from truncated distributions, and some weren't")
        return Kept.of([ids for kept in several for ids in kept or ()], chosen)


@dataclass(frozen=True, slots=True)
class Packed:
    """token_ids ``[T]``; of each chosen token: the packed index of its predictor, its id, and the
    number of its sequence, all ``[tokens]`` in the order of the sequences; and the ids that sampling
    kept there, where it truncated."""

    tree: Tree
    token_ids: Tensor
    predictors: Tensor
    chosen: Tensor
    sequence: Tensor
    kept: Kept | None = None


def prepare(
    algorithm: Algorithm,
    groups: Sequence[Group],
    max_length: int,
    *,
    parts: int = 1,
    penalty: Sequence[float] | None = None,
) -> list[Trained]:
    """The rollout's trained episodes with their advantages and weights, in order.

    Advantages are taken over the whole rollout, weights within each of its `mini_batches`, of which
    there are to be ``parts``. ``penalty`` (one per trained episode) comes off the rewards. Excluded
    groups and unscored episodes are left out of baselines and weights alike; truncated ones that the
    algorithm masks are in the baselines alone. Raises CoveyError for
    an episode whose engine reported no log-probs.
    """
    picked = [
        (index, episode, score.value)
        for index, group in enumerate(groups)
        if group.excluded is None
        for episode, score in zip(group.episodes, group.scores, strict=True)
        if score.value is not None
    ]
    if not picked:
        return []
    number = torch.tensor([index for index, _, _ in picked])
    lengths = torch.tensor([episode.chosen for _, episode, _ in picked])
    rewards = torch.tensor([value for _, _, value in picked], dtype=torch.float64)
    if penalty is not None:
        rewards = rewards - torch.tensor(penalty, dtype=torch.float64)
    gains = advantages(algorithm, rewards, number, lengths)
    kept = [i for i, (_, e, _) in enumerate(picked) if not _masked(algorithm, e)]
    if not kept:
        return []
    picked, gains = [picked[i] for i in kept], gains[kept].tolist()
    number, lengths = number[kept], lengths[kept]
    weights = [
        weight
        for part in _parts([index for index, _, _ in picked], parts)
        for weight in token_weights(algorithm, lengths[part], number[part], max_length=max_length).tolist()
    ]
    return [
        _trained(index, episode, gain, weight)
        for (index, episode, _), gain, weight in zip(picked, gains, weights, strict=True)
    ]


def _masked(algorithm: Algorithm, episode: Episode) -> bool:
    return algorithm.truncated == "masked" and episode.stop is StopReason.LENGTH


Grouped = TypeVar("Grouped", Trained, Sample)
"""What knows the group it is of."""


def mini_batches(sequences: Sequence[Grouped], parts: int) -> list[list[Grouped]]:
    """The sequences of each optimizer step on a rollout: whole groups in their order, as evenly as they
    divide, the larger ones first; fewer than ``parts`` when there are fewer groups."""
    return [list(sequences[part]) for part in _parts([s.group for s in sequences], parts)]


def _parts(groups: Sequence[int], parts: int) -> list[slice]:
    """Where to cut sequences with these group numbers; a group's are neighbours."""
    starts = [i for i, group in enumerate(groups) if not i or groups[i - 1] != group]
    parts = min(parts, len(starts))
    each, more = divmod(len(starts), parts) if parts else (0, 0)
    first = [part * each + min(part, more) for part in range(parts)]
    cuts = [*(starts[at] for at in first), len(groups)]
    return [slice(a, b) for a, b in pairwise(cuts)]


def split(sequences: Sequence[Trained], budget: int) -> Iterator[MicroBatch]:
    """Consecutive sequences in micro-batches of at most ``budget`` packed tokens.

    A group is cut only when it alone exceeds the budget (its prompt is then computed once per
    piece); a sequence never is.
    """
    taken: list[Trained] = []
    for group in _groups(sequences):
        if taken and MicroBatch((*taken, *group)).tokens > budget:
            yield MicroBatch(tuple(taken))
            taken = []
        for s in group:
            if taken and MicroBatch((*taken, s)).tokens > budget:
                yield MicroBatch(tuple(taken))
                taken = []
            taken.append(s)
    if taken:
        yield MicroBatch(tuple(taken))


def _groups(sequences: Sequence[Trained]) -> list[list[Trained]]:
    groups: list[list[Trained]] = []
    for s in sequences:
        if not groups or groups[-1][0].group != s.group:
            groups.append([])
        groups[-1].append(s)
    return groups


def _trained(group: int, episode: Episode, advantage: float, weight: float) -> Trained:
    if episode.sampler_logp is None:
        raise CoveyError(
            f"problem {episode.problem.id!r}: the engine reported no log-probs, so sample {episode.sample} "
            "can't be trained on; use an engine that reports them"
        )
    prompt = episode.turns[0].context_ids
    return Trained(
        group,
        episode.sample,
        prompt,
        episode.token_ids[len(prompt) :],
        episode.loss_mask[len(prompt) :],
        episode.sampler_logp,
        advantage,
        weight,
        episode.kept,
    )
