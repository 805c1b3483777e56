"""Rewards: what a reply is worth. Each name in ``REWARDS`` is a class whose instance is a `Reward`."""

from __future__ import annotations

REWARDS: dict[str, str] = {
    "by_part": "covey.rewards.by_part:ByPart",
    "choice": "covey.rewards.choice:Choice",
    "code": "covey.rewards.code:Code",
    "combine": "covey.rewards.combine:Combine",
    "countdown": "covey.rewards.countdown:Countdown",
    "exact": "covey.rewards.exact:Exact",
    "finished": "covey.rewards.finished:Finished",
    "format": "covey.rewards.format:Format",
    "judge": "covey.rewards.judge:Judge",
    "language": "covey.rewards.language:Language",
    "math": "covey.rewards.math:Math",
    "number": "covey.rewards.number:Number",
    "openenv": "covey.rewards.openenv:OpenEnv",
    "overlong": "covey.rewards.overlong:Overlong",
    "reasoning_gym": "covey.rewards.reasoning_gym:ReasoningGym",
    "remote": "covey.rewards.remote:Remote",
    "reward_model": "covey.rewards.reward_model:RewardModel",
    "regex": "covey.rewards.regex:Regex",
    "verifiers": "covey.rewards.verifiers:Verifiers",
}
"""Name → ``module:class``. The class takes the reward's parameters; it is imported when it is used."""
