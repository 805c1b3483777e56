"""Tasks: where problems come from. Each name in ``TASKS`` is a class whose instance is a `Task`."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "arithmetic": "covey.tasks.arithmetic:Arithmetic",
    "countdown": "covey.tasks.countdown:Countdown",
    "dataset": "covey.tasks.dataset:Dataset",
    "humaneval": "covey.tasks.humaneval:HumanEval",
    "jsonl": "covey.tasks.jsonl:Jsonl",
    "mixture": "covey.tasks.mixture:Mixture",
    "reasoning_gym": "covey.tasks.reasoning_gym:ReasoningGym",
}
"""Name → ``module:class``. The class takes the task's parameters; it is imported when it is used."""
