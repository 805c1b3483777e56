"""Tasks: where problems come from. Each name in ``TASKS`` is a class whose instance is a `Task`."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "arithmetic": "covey.tasks.arithmetic:Arithmetic",
    "calculator": "covey.tasks.calculator:Calculator",
    "countdown": "covey.tasks.countdown:Countdown",
    "dataset": "covey.tasks.dataset:Dataset",
    "guess": "covey.tasks.guess:Guess",
    "humaneval": "covey.tasks.humaneval:HumanEval",
    "jsonl": "covey.tasks.jsonl:Jsonl",
    "mixture": "covey.tasks.mixture:Mixture",
    "openenv": "covey.tasks.openenv:OpenEnv",
    "reasoning_gym": "covey.tasks.reasoning_gym:ReasoningGym",
    "tools": "covey.tasks.tooled:Tooled",
    "verifiers": "covey.tasks.verifiers:Verifiers",
}
"""Name → ``module:class``. The class takes the task's parameters; it is imported when it is used."""
