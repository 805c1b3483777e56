"""Learning: batches with a weight per token, the learner, the optimizer, memory."""

from covey.train.learner import PolicyLearner, unsupported
from covey.train.memory import Footprint, footprint
from covey.train.optimizer import Optimizer, Schedule

__all__ = ["Footprint", "Optimizer", "PolicyLearner", "Schedule", "footprint", "unsupported"]
