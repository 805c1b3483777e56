"""Models: loading and saving, chat templates, packed log-probabilities, decoding."""

from covey.models.decoding import Decoder
from covey.models.kept import Kept
from covey.models.loading import load_policy, save_policy
from covey.models.logprobs import chosen_logprobs
from covey.models.policy import Policy

__all__ = ["Decoder", "Kept", "Policy", "chosen_logprobs", "load_policy", "save_policy"]
