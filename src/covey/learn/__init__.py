"""Learning: batches with a weight per token, the learner, the optimizer, memory."""

from covey.learn.learner import PolicyLearner, unsupported
from covey.learn.memory import Footprint, footprint
from covey.learn.optimizer import Optimizer, Schedule

__all__ = ["Footprint", "Optimizer", "PolicyLearner", "Schedule", "footprint", "unsupported"]
