"""Runs in ANOTHER Python, where verifiers and a taskset are installed: a line of JSON in, one out.

It imports nothing of Covey's and only the standard library until it is told which taskset to load. The first
line is ``{"taskset": "package.module:Class" | "file.py:Class", "settings": {…}}``; the answer is ``{"ready":
{…}}``, or ``{"refused": traceback}``. Further lines are ``{"rows": n}``, for the next n tasks, or
``{"data": {…}, "prompt": […], "reply": str, "truncated": bool}``, a reply to be scored.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import importlib.util
import inspect
import itertools
import json
import os
import signal
import sys
import traceback
from typing import Any

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class Unfit(Exception):
    """A taskset that can't be used from here, and why."""


class Host:
    """A taskset, and tasks made again from the data that listing them gave."""

    def __init__(self, taskset: str, settings: dict[str, Any]) -> None:
        self.vf: Any = importlib.import_module("verifiers.v1")  # by name: Covey's own Python doesn't have it
        made = imported(taskset)
        if not (isinstance(made, type) and issubclass(made, self.vf.Taskset)):
            raise Unfit(f"{taskset} isn't a verifiers.v1 Taskset")
        generic: Any = importlib.import_module("verifiers.v1.utils.generic")
        config = generic.concrete_type(made, self.vf.TasksetConfig) or self.vf.TasksetConfig
        self.taskset: Any = made(config.model_validate(settings))
        self.tasks = iter(self.taskset)
        first = next(self.tasks, None)
        if first is None:
            raise Unfit(f"{taskset} has no tasks")
        self.tasks = itertools.chain([first], self.tasks)
        self.kind, self.config = type(first), first.config
        self.check(first)

    def check(self, task: Any) -> None:
        """Refuse what takes more than a reply to score: the score without it would be another one."""
        for hook in ("setup", "finalize", "stage_verifier"):
            if getattr(self.kind, hook) is not getattr(self.vf.Task, hook):
                raise Unfit(f"its {self.kind.__name__} has {hook}(), which needs a verifiers runtime")
        if self.kind.NEEDS_CONTAINER:
            raise Unfit(f"its {self.kind.__name__} needs a container")
        if self.kind.toolsets(self.config) or type(self.taskset).toolsets(self.taskset.config):
            raise Unfit("it has tools, which are MCP servers; only tasks of one reply can be scored")
        judges = [judge.score for judge in task.plugged_judges()]
        rewards, metrics = task.hooks("reward"), task.hooks("metric")
        for hook in (*rewards, *metrics, *judges):
            wanted = inspect.signature(hook).parameters.get("runtime")
            if wanted is not None and wanted.default is inspect.Parameter.empty:
                raise Unfit(f"its {hook.__name__} needs a verifiers runtime")
        if not rewards and not judges:
            raise Unfit(f"its {self.kind.__name__} has no @vf.reward")

    def ready(self) -> dict[str, Any]:
        version = importlib.import_module("verifiers").__version__
        return {"verifiers": version, "task": self.kind.__name__, "endless": not self.taskset.bounded}

    def row(self, task: Any) -> dict[str, Any]:
        """A task as JSON; ``unfit`` says why there is none."""
        if type(task) is not self.kind:
            return {"unfit": f"a {type(task).__name__} among {self.kind.__name__}s"}
        data = task.data.model_dump(mode="json", exclude_none=True)
        again = self.again(data)
        if again.key != task.key or again.hash != task.hash:
            return {"unfit": "a task made again from its data has another key: not all that makes it is data"}
        prompt = data.get("prompt")
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt or [])
        if not messages:
            return {"unfit": "no prompt: the user of the conversation would have to begin it"}
        for message in messages:
            extra = {key for key, value in message.items() if value is not None} - {"role", "content"}
            if not isinstance(message.get("content"), str) or extra:
                return {"unfit": "a message that is more than a text"}
        messages = [{"role": message["role"], "content": message["content"]} for message in messages]
        if data.get("system_prompt"):
            messages.insert(0, {"role": "system", "content": data["system_prompt"]})
        return {"key": task.key, "data": data, "messages": messages}

    def again(self, data: dict[str, Any]) -> Any:
        return self.kind(self.kind.data_type().model_validate(data), self.config)

    def score(self, data: dict[str, Any], prompt: list[Any], reply: str, truncated: bool) -> dict[str, Any]:
        """The task's own scoring of one reply, through `Task.score`."""
        vf = self.vf
        state: Any = importlib.import_module("verifiers.v1.state")
        task = self.again(data)
        messages = [*prompt, {"role": "assistant", "content": reply}]
        nodes = [
            {"parent": place - 1 if place else None, "message": message, "sampled": place == len(prompt)}
            for place, message in enumerate(messages)
        ]
        finish = "length" if truncated else "stop"
        trace = vf.Trace(
            task=vf.TraceTask(type=self.kind.__name__, data=task.data, key=task.key, hash=task.hash),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            state=state.state_cls(self.kind)(),
            nodes=[vf.MessageNode.model_validate(node) for node in nodes],
            calls=[vf.ModelCall(node=len(prompt), finish_reason=finish)],
            is_completed=True,
            ok=True,
        )
        asyncio.run(task.score(trace))
        rewards = {n: None if r is None else [r.score, r.weight] for n, r in trace.rewards.items()}
        return {"rewards": rewards, "metrics": dict(trace.metrics)}


def imported(name: str) -> Any:
    where, _, attribute = name.rpartition(":")
    if not where.endswith(".py"):
        return getattr(importlib.import_module(where), attribute)
    module = os.path.splitext(os.path.basename(where))[0]
    spec = importlib.util.spec_from_file_location(module, where)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made  # pydantic looks the names of annotations up there
    spec.loader.exec_module(made)
    return getattr(made, attribute)


def answer(host: Host, order: dict[str, Any]) -> dict[str, Any]:
    if "rows" in order:
        rows = [host.row(task) for task in itertools.islice(host.tasks, order["rows"])]
        return {"rows": rows, "end": len(rows) < order["rows"]}
    return host.score(order["data"], order["prompt"], order["reply"], order["truncated"])


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):  # it ended before that was said
        sys.exit(1)
    # The pipes move away from where a taskset's own print and input would reach.
    orders, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        host = Host(**json.loads(orders.readline()))
    except Unfit as error:
        tell({"refused": str(error)})
        return
    except Exception as error:  # what it can't load is the user's to know
        tell({"refused": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()})
        return
    tell({"ready": host.ready()})
    for line in orders:
        try:
            tell(answer(host, json.loads(line)))
        except MemoryError:
            tell({"memory": True})
        except Exception as error:  # a taskset's failure becomes data
            tell({"raised": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()})


if __name__ == "__main__":
    main()
