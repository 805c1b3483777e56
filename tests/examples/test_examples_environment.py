"""The shipped example of an own environment plays, and fits where a task is asked for."""

from __future__ import annotations

from pathlib import Path

from covey.build.components import build_task
from covey.config import Component
from covey.engines.scripted import ScriptedChat, ScriptedEngine
from covey.protocols import Interactive, Task
from covey.rewards.finished import Finished
from covey.rollout import Attempt, Limits, Talk, play
from covey.types import DrawKey, Sampling

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_environment.py"


class Chatting(ScriptedChat):
    def after(self, messages):
        return self.prompt(messages)

    def reply(self, ids):
        return {"role": "assistant", "content": "".join(chr(i) for i in ids if i)}


def test_the_one_in_the_documentation_is_won_by_doubling(tmp_path: Path) -> None:
    text = (EXAMPLE.parents[1] / "docs" / "environments.md").read_text()
    own = tmp_path / "own.py"
    own.write_text(text.split("```python\n")[1].split("```")[0])
    task = build_task(Component(name=f"{own}:Double"))
    assert isinstance(task, Interactive)
    game = task.environment(task.problems("train")[0], 0)
    said = [game.step({"role": "assistant", "content": text}) for text in ("3", "2")]
    assert said == [[{"role": "user", "content": "wrong"}], None]
    assert not {p.id for p in task.problems("train")} & {p.id for p in task.problems("heldout")}


def test_the_example_is_won_by_doubling_three_times() -> None:
    task = build_task(Component(name=f"{EXAMPLE}:Doubling"))
    assert isinstance(task, Task)
    assert isinstance(task, Interactive)
    problem = next(p for p in task.problems("train") if p.id == "Double 3")
    said = [["6", "12", "24"], ["6", "7", "12"]]
    engine = ScriptedEngine(lambda request: said[request.key.sample][request.key.turn])
    chat = Chatting()
    attempts = [Attempt(problem, chat.prompt(problem.messages), DrawKey(0, 0, problem.id, s)) for s in (0, 1)]
    played = dict(play(attempts, engine, chat, Sampling(9), Talk(task, Limits(turns=3))))
    assert [score.value for score in Finished()([played[0], played[1]])] == [1.0, 0.0]
    assert [len(task.problems(split)) for split in ("train", "heldout")] == [7, 2]
