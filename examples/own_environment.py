"""An own environment.

In a recipe: ``task = "examples/own_environment.py:Doubling"`` and ``reward = "finished"``.
"""

from __future__ import annotations

from covey.types import Problem


class Doubling:
    """Say a number, hear its double, and say that; three right answers in a row win."""

    def __init__(self, numbers: int = 9) -> None:
        said = [({"role": "user", "content": f"Double {n}"},) for n in range(1, numbers + 1)]
        self.all = [Problem(m[0]["content"], m) for m in said]

    def problems(self, split: str) -> list[Problem]:
        return [p for i, p in enumerate(self.all) if (i % 5 == 0) == (split == "heldout")]

    def environment(self, problem: Problem, seed: int) -> Game:
        return Game(problem)

    def tools(self) -> list[dict]:
        return []


class Game:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.number, self.right = problem, int(problem.id.split()[1]), 0

    def first(self) -> tuple[dict, ...]:
        return self.problem.messages

    def step(self, reply: dict) -> list[dict] | None:
        right = reply["content"].strip() == str(2 * self.number)
        self.right, self.number = (self.right + 1, 2 * self.number) if right else (0, self.number)
        return None if self.right == 3 else [{"role": "user", "content": "right" if right else "wrong"}]
