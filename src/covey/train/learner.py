"""One optimizer step from a step's groups. RL, SFT and distillation differ in their `Algorithm`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from covey.algo import Algorithm, TokenBatch, diagnostics, token_loss
from covey.models import Policy, chosen_logprobs
from covey.train.batch import MicroBatch, Trained, prepare, split
from covey.train.optimizer import Optimizer
from covey.types import Group, Sample, Update, Weights


class PolicyLearner:
    """Learns from groups: forward, loss per token, weighted sum, backward, one step.

    budget: packed tokens per micro-batch (see `memory`). max_length: the longest completion
    that sampling allows, in tokens. temperature: the sampler's, so that both sides speak of one
    distribution (0 is taken as 1). reference: the frozen policy, where the algorithm needs one.
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
    ) -> None:
        self.policy, self.algorithm, self.optimizer = policy, algorithm, optimizer
        self.budget, self.max_length = budget, max_length
        self.temperature = temperature or 1.0
        self.reference = reference
        if algorithm.needs_reference and reference is None:
            raise ValueError("the algorithm compares with a reference policy, but none was given")

    def weights(self) -> Weights:
        return Weights(self.policy.version, self.policy)

    def update(self, step: int, groups: Sequence[Group]) -> Update:
        """Take one optimizer step; without any trainable episode the weights stay as they are."""
        sequences = prepare(self.algorithm, groups, self.max_length)
        if not sequences:
            return Update(False, counts(groups, sequences))
        passes = [self.backward(part) for part in split(sequences, self.budget)]
        metrics = counts(groups, sequences) | _joined(passes)
        norm = self.optimizer.norm()
        metrics["grad_norm"] = norm
        trained = math.isfinite(norm) and math.isfinite(metrics["loss"])
        if trained:
            metrics["learning_rate"] = self.optimizer.step(step, norm)
        else:
            self.optimizer.clear()
        return Update(trained, metrics, tuple(s for p in passes for s in p.samples))

    def backward(self, part: MicroBatch) -> Pass:
        """Add one micro-batch's gradient to what is gathered."""
        packed = part.pack(self.policy)
        hidden = self.policy.hidden(packed.token_ids, packed.tree, packed.tree.positions)
        logp, entropy = chosen_logprobs(
            self.policy, hidden[packed.predictors], packed.chosen, self.temperature
        )
        sampler = torch.tensor([x for s in part.sequences for x in s.sampler_logp], device=logp.device)
        advantage = torch.tensor([s.advantage for s in part.sequences], device=logp.device)
        weight = torch.tensor([s.weight for s in part.sequences], device=logp.device)[packed.sequence]
        batch = TokenBatch(
            logp=logp,
            old_logp=None,  # one optimizer step per rollout: the update starts at logp itself
            sampler_logp=sampler,
            ref_logp=self._reference_logp(part),
            advantage=advantage[packed.sequence],
            sequence=packed.sequence,
        )
        result = token_loss(self.algorithm, batch)
        loss = (result.loss * weight).sum()
        loss.backward()
        observed = {**result.metrics, "entropy": entropy.detach()}
        return Pass(loss.item(), observed, _samples(part, weight, logp.detach()))

    @torch.no_grad()
    def _reference_logp(self, part: MicroBatch) -> Tensor | None:
        if not self.algorithm.needs_reference or self.reference is None:
            return None
        packed = part.pack(self.reference)
        hidden = self.reference.hidden(packed.token_ids, packed.tree, packed.tree.positions)
        return chosen_logprobs(self.reference, hidden[packed.predictors], packed.chosen, self.temperature)[0]


class Pass:
    """What one micro-batch contributed."""

    def __init__(self, loss: float, observed: Mapping[str, Tensor], samples: tuple[Sample, ...]) -> None:
        self.loss, self.observed, self.samples = loss, observed, samples


def _joined(passes: Sequence[Pass]) -> dict[str, float]:
    """Metrics over the whole step: the same however it was split."""
    return {
        "loss": sum(p.loss for p in passes),
        "micro_batches": float(len(passes)),
        **diagnostics.summary([p.observed for p in passes]),
    }


def counts(groups: Sequence[Group], sequences: Sequence[Trained]) -> dict[str, float]:
    """What was sampled and what of it is trained on; rewards over scored episodes only."""
    episodes = [(e, s) for g in groups for e, s in zip(g.episodes, g.scores, strict=True)]
    values = [s.value for _, s in episodes if s.value is not None]
    lengths = [e.chosen for e, _ in episodes]
    metrics = {
        "groups": float(len(groups)),
        "groups_trained": float(len({s.group for s in sequences})),
        "episodes": float(len(episodes)),
        "episodes_trained": float(len(sequences)),
        "unscored": float(len(episodes) - len(values)),
        "tokens_sampled": float(sum(lengths)),
        "tokens_trained": float(sum(sum(s.chosen) for s in sequences)),
        "length_mean": sum(lengths) / max(len(lengths), 1),
        "truncated": sum(e.stop == "length" for e, _ in episodes) / max(len(episodes), 1),
    }
    if values:
        metrics["reward"] = sum(values) / len(values)
        metrics["reward_std"] = (sum((v - metrics["reward"]) ** 2 for v in values) / len(values)) ** 0.5
    return metrics


def _samples(part: MicroBatch, weight: Tensor, logp: Tensor) -> tuple[Sample, ...]:
    """The record of each sequence, its chosen tokens cut out of the packed ones."""
    samples, at = [], 0
    for s in part.sequences:
        end = at + sum(s.chosen)
        samples.append(
            Sample(
                s.group, s.sample, s.advantage, tuple(weight[at:end].tolist()),
                tuple(logp[at:end].tolist()), s.sampler_logp,
            )
        )  # fmt: skip
        at = end
    return tuple(samples)
