"""From a rollout's groups to optimizer steps. RL, SFT and distillation differ in their `Algorithm`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from covey.algo import Algorithm, TokenBatch, control, diagnostics, token_loss
from covey.learn.batch import MicroBatch, Packed, Trained, mini_batches, prepare, split
from covey.learn.look import columns, kept, penalties, prices, reference_distance, select
from covey.learn.optimizer import Optimizer
from covey.models import Policy, chosen_logprobs
from covey.models.weights import to_compute_with
from covey.types import Ending, Group, Sample, Update, Weights


class PolicyLearner:
    """Learns from groups: forward, loss per token, weighted sum, backward, one step.

    budget: packed tokens per micro-batch (see `memory`). max_length: the longest completion
    that sampling allows, in tokens. temperature: the sampler's, so that both sides speak of one
    distribution (0 is taken as 1). reference: the frozen policy, where the algorithm needs one; it
    becomes a copy of the policy after every ``reference_every`` steps (0: never), as DeepSeek-R1's does.

    epochs, parts: each rollout is gone through so many times, in so many mini-batches of whole groups
    (see `mini_batches`), each of which is one optimizer step with token weights of its own. seed: of
    the draws of an algorithm that selects tokens at random.

    Raises ValueError for an algorithm that it can't do justice to.
    """

    def __init__(
        self,
        policy: Policy,
        algorithm: Algorithm,
        optimizer: Optimizer,
        *,
        budget: int,
        max_length: int,
        temperature: float = 1.0,
        reference: Policy | None = None,
        reference_every: int = 0,
        epochs: int = 1,
        parts: int = 1,
        seed: int = 0,
    ) -> None:
        self.policy, self.algorithm, self.optimizer = policy, algorithm, optimizer
        self.budget, self.max_length = budget, max_length
        self.temperature = temperature or 1.0
        self.reference, self.reference_every = reference, reference_every
        self.epochs, self.parts, self.seed = epochs, parts, seed
        if algorithm.needs_reference and reference is None:
            raise ValueError("the algorithm compares with a reference policy, but none was given")
        if (reason := unsupported(algorithm)) is not None:
            raise ValueError(reason)
        self._hold(control.first(algorithm))

    def _hold(self, held: control.Held) -> None:
        """Where the controllers stand, and the algorithm with the coefficients of the next loss."""
        self.held, self.current = held, control.applied(self.algorithm, held)

    def follow(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Bring what moves coefficients to where a run's steps, by their metrics in order, have led."""
        held = control.first(self.algorithm)
        for metrics in steps:
            held = control.after(self.algorithm, held, metrics)
        self._hold(held)

    @property
    def moves(self) -> bool:
        """Whether the policy moves while it learns from one rollout."""
        return self.epochs * self.parts > 1

    @property
    def looks(self) -> bool:
        """Whether something must be known of the whole rollout before the first optimizer step."""
        return bool(columns(self.algorithm, moves=self.moves))

    def weights(self) -> Weights:
        return Weights(self.policy.version, self.policy)

    def renewed(self, step: int) -> Policy | None:
        """The reference, where step ``step`` needs it and couldn't make it from what it has: the model
        that the run began with, and the policy."""
        return self.reference if renewed_after(step, self.reference_every) else None

    def fingerprint(self) -> dict[str, str]:
        """What is to be computed with: the master weights in the dtype of computation."""
        return to_compute_with(self.policy)

    def update(self, step: int, groups: Sequence[Group]) -> Update:
        """Take the optimizer steps of one rollout; without any trainable episode the weights stay as
        they are. Figures are of the whole rollout: of every token, and means over the optimizer steps."""
        if self.reference is not None and self.reference_every and step and not step % self.reference_every:
            self.reference.copy_from(self.policy)
        sequences = self.ready(step, groups)
        if not sequences:
            return Update(False, counts(groups, sequences))
        parts = mini_batches(sequences, self.parts)
        taken = [self._take(step, part) for _ in range(self.epochs) for part in parts]
        passes = [p for one in taken for p in one.passes]
        metrics = counts(groups, sequences) | _joined(passes, len(taken))
        metrics["grad_norm"] = sum(one.norm for one in taken) / len(taken)
        rates = [one.rate for one in taken if one.rate is not None]
        if rates:
            metrics["learning_rate"] = rates[0]
        if self.moves:
            metrics |= {"optimizer_steps": float(len(rates))} | _first(taken[0].passes)
        samples = tuple(s for one in taken[: len(parts)] for p in one.passes for s in p.samples)
        if self.algorithm.kl_control is not None:
            metrics["kl_sequence"] = reference_distance(samples)
        metrics |= control.figures(self.held)
        self._hold(control.after(self.algorithm, self.held, metrics))
        return Update(bool(rates), metrics, samples)

    def ready(self, step: int, groups: Sequence[Group]) -> list[Trained]:
        """The rollout's trained episodes with all that the loss will read of them."""
        sequences = prepare(self.algorithm, groups, self.max_length, parts=self.parts)
        if not sequences or not self.looks:
            return sequences
        sequences, entropy = self._look(sequences)
        if prices(self.algorithm):
            penalty = penalties(self.current, sequences)
            priced = prepare(self.algorithm, groups, self.max_length, parts=self.parts, penalty=penalty)
            gains = [p.advantage for p in priced]
            sequences = [replace(s, advantage=gain) for s, gain in zip(sequences, gains, strict=True)]
        return self._marked(step, sequences, entropy)

    def looked(self, step: int, sequences: Sequence[Trained]) -> Sequence[Trained]:
        """Some sequences as `ready` would have them, were they all; advantages stay."""
        return self._marked(step, *self._look(sequences)) if self.looks else sequences

    def _take(self, step: int, sequences: Sequence[Trained]) -> Taken:
        """One optimizer step, unless its loss or gradient isn't finite."""
        passes = [self.backward(part) for part in split(sequences, self.budget)]
        norm = self.optimizer.norm()
        if math.isfinite(norm) and math.isfinite(sum(p.loss for p in passes)):
            return Taken(passes, norm, self.optimizer.step(step, norm))
        self.optimizer.clear()
        return Taken(passes, norm, None)

    @torch.no_grad()
    def _look(self, sequences: Sequence[Trained]) -> tuple[list[Trained], list[Tensor]]:
        """The sequences with their ``old_logp`` and ``ref_logp``, and the entropy at each token; in the
        same micro-batches as they will be learned from."""
        seen: list[Trained] = []
        entropies: list[Tensor] = []
        for mini in mini_batches(sequences, self.parts):
            for part in split(mini, self.budget):
                logp, entropy, _ = self._forward(self.policy, part)
                reference = self._reference_logp(part)
                lengths = [sum(s.chosen) for s in part.sequences]
                entropies += entropy.split(lengths)
                old = _tuples(logp, lengths)
                ref = [()] * len(lengths) if reference is None else _tuples(reference, lengths)
                seen += [
                    replace(s, old_logp=o, ref_logp=r)
                    for s, o, r in zip(part.sequences, old, ref, strict=True)
                ]
        return seen, entropies

    def _marked(self, step: int, sequences: Sequence[Trained], entropy: Sequence[Tensor]) -> list[Trained]:
        """With the tokens marked that the algorithm selects, in each mini-batch among its own."""
        marked: list[Trained] = []
        for part in mini_batches(sequences, self.parts):
            of_part = entropy[len(marked) : len(marked) + len(part)]
            marked += select(self.algorithm, part, of_part, seed=self.seed, step=step)
        return marked

    def backward(self, part: MicroBatch) -> Pass:
        """Add one micro-batch's gradient to what is gathered."""
        logp, entropy, packed = self._forward(self.policy, part)
        sampler = torch.tensor([x for s in part.sequences for x in s.sampler_logp], device=logp.device)
        advantage = torch.tensor([s.advantage for s in part.sequences], device=logp.device)
        weight = torch.tensor([s.weight for s in part.sequences], device=logp.device)[packed.sequence]
        batch = TokenBatch(
            logp=logp,
            # with one optimizer step per rollout, the update starts at logp itself
            old_logp=_tokens(part, "old_logp", logp.device) if self.moves else None,
            sampler_logp=sampler,
            ref_logp=_tokens(part, "ref_logp", logp.device) if self.looks else self._reference_logp(part),
            advantage=advantage[packed.sequence],
            sequence=packed.sequence,
            selected=_tokens(part, "selected", logp.device),
            entropy=entropy,
        )
        result = token_loss(self.current, batch)
        loss = (result.loss * weight).sum()
        loss.backward()
        observed = {**result.metrics, "entropy": entropy.detach()}
        columns = {"weight": weight, "logp": logp}
        for name in {"ref_logp", "entropy"}.intersection(kept(self.algorithm, moves=self.moves)):
            columns[name] = getattr(batch, name)
        return Pass(loss.item(), observed, _samples(part, packed.chosen, columns))

    @torch.no_grad()
    def _reference_logp(self, part: MicroBatch) -> Tensor | None:
        if not self.algorithm.needs_reference or self.reference is None:
            return None
        return self._forward(self.reference, part)[0]

    def _forward(self, policy: Policy, part: MicroBatch) -> tuple[Tensor, Tensor, Packed]:
        """(log-prob, entropy) of every chosen token, and where each stands."""
        packed = part.pack(policy)
        hidden = policy.hidden(packed.token_ids, packed.tree, packed.tree.positions)
        states = hidden[packed.predictors]
        logp, entropy = chosen_logprobs(policy, states, packed.chosen, self.temperature, packed.kept)
        return logp, entropy, packed


def renewed_after(step: int, every: int) -> int:
    """After how many steps the policy was what step ``step`` compares with; 0 for the model that training
    began from, and where that step renews the reference itself."""
    return step // every * every if every and step % every else 0


def unsupported(algorithm: Algorithm) -> str | None:
    """Why the learner can't do an algorithm justice, or None when it can."""
    if algorithm.aggregation.name == "local_token_mean":
        return (
            "aggregation 'local_token_mean' makes the gradient depend on how a step is split into "
            "micro-batches, which here follows from train.memory_gb; use 'token_mean', the same mean "
            "taken over the whole step"
        )
    return None


class Pass:
    """What one micro-batch contributed."""

    def __init__(self, loss: float, observed: Mapping[str, Tensor], samples: tuple[Sample, ...]) -> None:
        self.loss, self.observed, self.samples = loss, observed, samples


@dataclass(frozen=True, slots=True)
class Taken:
    """One optimizer step: its passes, the gradient's norm, and the rate, or None when it was dropped."""

    passes: Sequence[Pass]
    norm: float
    rate: float | None


def _joined(passes: Sequence[Pass], steps: int) -> dict[str, float]:
    """Metrics over the whole rollout: the same however its optimizer steps were split."""
    return {
        "loss": sum(p.loss for p in passes) / steps,
        "micro_batches": float(len(passes)),
        **diagnostics.summary([p.observed for p in passes]),
    }


def _first(passes: Sequence[Pass]) -> dict[str, float]:
    """Ratios and clipping of the first optimizer step, where the policy hasn't moved yet."""
    figures = diagnostics.summary([p.observed for p in passes])
    return {f"first_{k}": v for k, v in figures.items() if k.startswith(("ratio_", "clip_"))}


def counts(groups: Sequence[Group], sequences: Sequence[Trained]) -> dict[str, float]:
    """What was sampled and what of it is trained on; rewards over scored episodes only."""
    episodes = [(e, s) for g in groups for e, s in zip(g.episodes, g.scores, strict=True)]
    values = [s.value for _, s in episodes if s.value is not None]
    lengths = [e.chosen for e, _ in episodes]
    stops = [turn.completion.stop for e, _ in episodes for turn in e.turns]  # of every reply
    metrics = {
        "groups": float(len(groups)),
        "groups_trained": float(len({s.group for s in sequences})),
        "episodes": float(len(episodes)),
        "episodes_trained": float(len(sequences)),
        "unscored": float(len(episodes) - len(values)),
        "tokens_sampled": float(sum(lengths)),
        "tokens_trained": float(sum(sum(s.chosen) for s in sequences)),
        "length_mean": sum(lengths) / max(len(lengths), 1),
        "truncated": sum(stop == "length" for stop in stops) / max(len(stops), 1),
    }
    if talks := [e for e, _ in episodes if e.ended is not None]:
        metrics["turns_mean"] = sum(len(e.turns) for e in talks) / len(talks)
        for why in Ending:
            metrics[f"ended/{why}"] = sum(e.ended is why for e in talks) / len(talks)
    if values:
        metrics["reward"] = sum(values) / len(values)
        metrics["reward_std"] = (sum((v - metrics["reward"]) ** 2 for v in values) / len(values)) ** 0.5
    for name in dict.fromkeys(name for _, s in episodes for name in s.parts):
        parts = [value for _, s in episodes if (value := s.parts.get(name)) is not None]
        if parts:
            metrics[f"reward/{name}"] = sum(parts) / len(parts)
    return metrics


def _samples(part: MicroBatch, chosen: Tensor, columns: Mapping[str, Tensor]) -> tuple[Sample, ...]:
    """The record of each sequence, its chosen tokens and their ``columns`` cut out of the packed ones."""
    lengths = [sum(s.chosen) for s in part.sequences]
    token_ids = [tuple(ids.tolist()) for ids in chosen.split(lengths)]
    cut = {name: _tuples(values.detach(), lengths) for name, values in columns.items()}
    return tuple(
        Sample(
            group=s.group,
            sample=s.sample,
            advantage=s.advantage,
            sampler_logp=s.sampler_logp,
            token_ids=token_ids[i],
            old_logp=s.old_logp,
            selected=s.selected,
            **{"ref_logp": s.ref_logp, **{name: several[i] for name, several in cut.items()}},
        )
        for i, s in enumerate(part.sequences)
    )


def _tokens(part: MicroBatch, name: str, device: torch.device) -> Tensor | None:
    """One of the columns that a look found, for every chosen token; None when it found none."""
    values = [x for s in part.sequences for x in getattr(s, name)]
    return torch.tensor(values, device=device) if values else None


def _tuples(values: Tensor, lengths: Sequence[int]) -> list[tuple[float, ...]]:
    return [tuple(x.tolist()) for x in values.split(lengths)]
