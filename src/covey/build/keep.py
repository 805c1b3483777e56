"""What makes a run go on exactly: a link of the chain after every step, a checkpoint when it is due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from covey.config import Checkpoint
from covey.learn import PolicyLearner, checkpoint
from covey.protocols import Keep, Source
from covey.records import Checkpoints, RunWriter


@dataclass(frozen=True, slots=True)
class Completed:
    """Where a run stands after ``step`` steps, beside its tensors. ``version`` is the policy's,
    ``source`` the state of the source, or nothing for a fresh one, ``chain`` the hash of the last
    link, and ``run`` that of `records.chain.origin`."""

    step: int
    version: int
    source: Mapping[str, Any]
    chain: str
    run: str

    @classmethod
    def nothing(cls, run: str) -> Completed:
        """The start of a run."""
        return cls(0, 0, {}, run, run)


class Keeper(Keep):
    """Links and saves the state of completed steps. A checkpoint is due after every ``every``
    steps and after the ``last``; at other times `save` makes one of the last completed step."""

    def __init__(
        self,
        writer: RunWriter,
        learner: PolicyLearner,
        source: Source,
        *,
        settings: Checkpoint,
        last: int,
        at: Completed,
    ) -> None:
        self.writer, self.learner, self.source = writer, learner, source
        self.settings, self.last = settings, last
        self.checkpoints = Checkpoints(writer.layout)
        self.at = at
        self.saved = at.step

    def completed(self, step: int) -> None:
        """The update of step ``step`` is recorded: link it, and note where the run stands."""
        policy = self.learner.policy
        self.writer.link(step, checkpoint.fingerprints(policy, self.learner.optimizer))
        # a later step draws from the source before it is complete: its state belongs to this moment
        source = dict(self.source.state())
        self.at = Completed(step + 1, policy.version, source, self.writer.head, self.at.run)

    def __call__(self, step: int) -> None:
        every = self.settings.every
        if step == self.last or (every and step % every == 0):
            self.save()

    def save(self) -> None:
        """Save the last completed step, unless it is. Once the weights have moved on, it can't be any more:
        the run will go on from the checkpoint before."""
        policy = self.learner.policy
        if self.saved == self.at.step or policy.version != self.at.version:
            return
        state = {
            "step": self.at.step,
            "policy_version": self.at.version,
            "source": self.at.source,
            "chain": self.at.chain,
            "run": self.at.run,
        }
        reference = self.learner.renewed(self.at.step)
        files = checkpoint.contents(policy, self.learner.optimizer, reference)
        self.checkpoints.commit(self.at.step, state, files)
        self.checkpoints.retain(self.settings.keep)
        self.saved = self.at.step
