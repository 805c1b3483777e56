"""The in-process engine: samples from the very module the learner trains."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from covey.engines.sampling import draw, draw_kept, uniforms
from covey.models import Decoder, Policy
from covey.models.weights import computed_with
from covey.types import Completion, CoveyError, Request, Sampling, StopReason, Weights

PREFILL = 8192
"""Tokens of prompts that go through the model at a time, or a single longer prompt: the memory that a pass
takes grows with them. The prompts that are left follow after one step of decoding."""


class LocalEngine:
    """Continuous batching over at most `slots` sequences at a time.

    Requests with the same prompt are a group, whose prompt is prefilled once. A sequence that
    ends leaves its slot to a waiting one. What is drawn for a request is keyed by the request
    alone; who runs beside it can only show in the last digits of the logits.
    """

    def __init__(self, policy: Policy, *, slots: int = 256) -> None:
        if slots < 1:
            raise CoveyError(f"the local engine needs at least one slot, not {slots}")
        self.policy = policy
        self.slots = slots

    def load(self, weights: Weights) -> None:
        """Follow the learner: the module is shared, so there is nothing to copy, only to check, and to lay
        out for sampling where that pays."""
        if weights.policy is not self.policy or weights.version != self.policy.version:
            raise CoveyError(
                f"the engine holds version {self.policy.version} of its weights and was handed version "
                f"{weights.version} of {'the same' if weights.policy is self.policy else 'another'} policy"
            )
        if self.policy.dense is not None and self.policy.dense.ready:
            with torch.no_grad():
                self.policy.dense.packed()

    def fingerprint(self) -> dict[str, str]:
        """What it computes with: every parameter of its module as it is, see `Fingerprinted`."""
        return computed_with(self.policy)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        """Answer every request, each yielded as it ends.

        Raises CoveyError for a prompt that is empty or leaves no room in the model's context.
        """
        schedule = _Schedule(self.policy, self.slots, self._groups(requests))
        while schedule.busy:
            schedule.fill()
            for ended in schedule.retire():
                yield ended.index, self._completion(ended)
            schedule.step()

    def _groups(self, requests: Sequence[Request]) -> list[_Group]:
        """Requests by prompt, in order of first appearance."""
        groups: dict[tuple[int, ...], _Group] = {}
        for index, request in enumerate(requests):
            self._check(request)
            group = groups.setdefault(request.prompt_ids, _Group(request.prompt_ids))
            numbers = uniforms(request.key, request.sampling.max_new_tokens)
            group.waiting.append(_Running(index, request, numbers, group))
        return list(groups.values())

    def _check(self, request: Request) -> None:
        name, have, more = request.key.problem_id, len(request.prompt_ids), request.sampling.max_new_tokens
        if not have or more < 1:
            raise CoveyError(
                f"problem {name!r}: {have} prompt tokens and {more} new ones leave nothing to do"
            )
        if have + more > self.policy.context:
            raise CoveyError(
                f"problem {name!r}: {have} prompt tokens and {more} new ones exceed the model's context of "
                f"{self.policy.context}; lower rollout.max_new_tokens or shorten the prompt"
            )

    def _completion(self, r: _Running) -> Completion:
        assert r.stop is not None
        text = self.policy.chat.text(r.token_ids)
        kept = tuple(r.kept) if r.request.sampling.truncates else None
        return Completion(tuple(r.token_ids), tuple(r.logp), r.stop, self.policy.version, text, kept)


@dataclass(slots=True)
class _Group:
    """The requests with one prompt; once it is open, its row in the decoder and what may follow it."""

    prompt_ids: tuple[int, ...]
    waiting: deque[_Running] = field(default_factory=deque)
    row: int = -1
    logits: Tensor | None = None


@dataclass(slots=True, eq=False)
class _Running:
    """One sequence: its cell in the decoder, and what was sampled so far."""

    index: int
    request: Request
    uniforms: np.ndarray
    group: _Group
    column: int = -1
    token_ids: list[int] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)
    kept: list[tuple[int, ...]] = field(default_factory=list)
    stop: StopReason | None = None


class _Schedule:
    """Who runs now, who waits, and where each one's keys and values are."""

    def __init__(self, policy: Policy, slots: int, groups: list[_Group]) -> None:
        self.policy, self.slots = policy, slots
        self.closed = deque(groups)  # groups whose prompt isn't prefilled yet
        self.partly: list[_Group] = []  # open groups with members still waiting
        self.running: list[_Running] = []
        self.decoder = Decoder(policy)

    @property
    def busy(self) -> bool:
        return bool(self.closed or self.partly or self.running)

    def fill(self) -> None:
        """Put waiting sequences into free slots and draw their first token."""
        fresh: list[_Running] = []
        for group in self.partly:
            taken = {r.column for r in self.running if r.group is group}
            free = [c for c in range(self.decoder.grid[1]) if c not in taken]
            fresh += self._start(group, free, self.slots - len(self.running) - len(fresh))
        room = self.slots - len(self.running) - len(fresh)
        # a prefill costs a pass over the weights: wait until several slots are free
        if self.closed and (room >= max(1, self.slots // 8) or not self.running + fresh):
            fresh += self._open(room)
        self.partly = [g for g in self.partly if g.waiting]
        if fresh:
            logits = [r.group.logits for r in fresh if r.group.logits is not None]
            self.running += fresh
            self._draw(torch.stack(logits), fresh)
            for r in fresh:
                if not r.group.waiting:
                    r.group.logits = None

    def _open(self, room: int) -> list[_Running]:
        """Prefill as many closed groups as the free slots can begin, or `PREFILL` allows."""
        opened = [self.closed.popleft()]
        while self.closed and sum(len(g.waiting) for g in opened) < room:
            if sum(len(g.prompt_ids) for g in (*opened, self.closed[0])) > PREFILL:
                break
            opened.append(self.closed.popleft())
        if not self.running and not self.partly:
            self.decoder = Decoder(self.policy)  # nothing left to keep
        first = self.decoder.grid[0]
        width = min(max(len(g.waiting) for g in opened), self.slots)
        logits = self.decoder.admit([g.prompt_ids for g in opened], width)
        fresh: list[_Running] = []
        for i, group in enumerate(opened):
            group.row, group.logits = first + i, logits[i]
            fresh += self._start(group, list(range(width)), room - len(fresh))
        self.partly += opened
        return fresh

    def _start(self, group: _Group, columns: list[int], room: int) -> list[_Running]:
        started: list[_Running] = []
        for column in columns[: max(room, 0)]:
            if not group.waiting:
                break
            r = group.waiting.popleft()
            r.column = column
            self.decoder.clear(group.row, column)
            started.append(r)
        return started

    def step(self) -> None:
        """Extend every running sequence by one token."""
        if not self.running:
            return
        if not self.partly:
            self._compact()
        rows, columns = self._cells()
        last = torch.tensor([r.token_ids[-1] for r in self.running], device=self.policy.device)
        self._draw(self.decoder.step(rows, columns, last), self.running)

    def retire(self) -> list[_Running]:
        """Take out the sequences that have ended."""
        ended = [r for r in self.running if r.stop]
        self.running = [r for r in self.running if not r.stop]
        return ended

    def _compact(self) -> None:
        """Give up the cells of ended sequences once a grid without them would be a quarter smaller.

        Rows are as long as the fullest: long replies of several prompts leave holes that no move closes.
        """
        p, n = self.decoder.grid
        counts = Counter(r.group.row for r in self.running)
        if len(counts) * max(counts.values()) > 0.75 * p * n:
            return
        self.running.sort(key=lambda r: (r.group.row, r.column))
        rows, columns = (t.tolist() for t in self.decoder.compact(*self._cells()))
        for r, row, column in zip(self.running, rows, columns, strict=True):
            r.group.row, r.column = row, column

    def _cells(self) -> tuple[Tensor, Tensor]:
        device = self.policy.device
        rows = torch.tensor([r.group.row for r in self.running], device=device)
        return rows, torch.tensor([r.column for r in self.running], device=device)

    def _draw(self, logits: Tensor, running: list[_Running]) -> None:
        """Sample one token for each sequence and note why those that end do."""
        for sampling, rows in _by_truncation(running).items():
            alike = [running[row] for row in rows]
            part = logits if len(rows) == len(running) else logits[rows]
            numbers = [r.uniforms[len(r.token_ids)] for r in alike]
            uniform = torch.tensor(numbers, dtype=torch.float64, device=logits.device)
            if sampling is None:
                heat = [r.request.sampling.temperature for r in alike]
                ids, logp = draw(part, uniform, torch.tensor(heat, dtype=torch.float32, device=logits.device))
            else:
                ids, logp, kept = draw_kept(part, uniform, sampling)
                for r, own in zip(alike, kept, strict=True):
                    r.kept.append(own)
            self._append(alike, ids, logp)

    def _append(self, running: list[_Running], ids: Tensor, logp: Tensor) -> None:
        for r, token, value in zip(running, ids.tolist(), logp.tolist(), strict=True):
            r.token_ids.append(token)
            r.logp.append(value)
            if token in self.policy.end_ids:
                r.stop = StopReason.END
            elif len(r.token_ids) == r.request.sampling.max_new_tokens:
                r.stop = StopReason.LENGTH


def _by_truncation(running: list[_Running]) -> dict[Sampling | None, list[int]]:
    """Which sequences are cut off alike; under None those that aren't, whatever their temperature."""
    rows: dict[Sampling | None, list[int]] = {}
    for row, r in enumerate(running):
        how = r.request.sampling
        rows.setdefault(replace(how, max_new_tokens=0) if how.truncates else None, []).append(row)
    return rows
