"""A taskset of verifiers' v1 interface. It is loaded by another Python, which has that package."""

import os
import time

import verifiers.v1 as vf


class SumData(vf.TaskData):
    answer: str


class SumTask(vf.Task[SumData]):
    @vf.reward(weight=2.0)
    async def right(self, trace) -> float:
        if trace.last_reply == "raise":
            raise ValueError("no luck")
        if trace.last_reply == "hang":
            time.sleep(1000)
        if trace.last_reply == "exit":
            os._exit(3)
        if trace.last_reply == "nan":
            return float("nan")
        print('{"rewards": {"right": [9, 9]}, "metrics": {}}')
        return float(trace.last_reply == self.data.answer)

    @vf.reward(weight=-0.5)
    async def long(self, trace) -> float:
        return float(len(trace.last_reply) > 5)

    @vf.metric
    async def truncated(self, trace) -> float:
        return float(trace.is_truncated)


class SumConfig(vf.TasksetConfig):
    highest: int = 5


class Sums(vf.Taskset[SumTask, SumConfig]):
    def load(self):
        for a in range(self.config.highest):
            for b in range(self.config.highest):
                data = SumData(prompt=f"{a}+{b}=", answer=str(a + b), system_prompt="Add.")
                yield SumTask(data, self.config.task)


class Endless(Sums):
    INFINITE = True

    def load(self):
        number = 0
        while True:
            yield SumTask(SumData(prompt=f"{number}=", answer=str(number)), self.config.task)
            number += 1


class SetUp(SumTask):
    async def setup(self, trace, runtime) -> None:
        await runtime.write("/tmp/x", b"")


class NeedsRuntime(vf.Task[SumData]):
    @vf.reward
    async def ran(self, trace, runtime) -> float:
        return 1.0


class Unrewarded(vf.Task[SumData]):
    @vf.metric
    async def length(self, trace) -> float:
        return 1.0


class Kept(SumTask):
    """What makes it isn't all in its data."""

    secret = ""

    @property
    def key(self) -> str:
        return self.hash + self.secret


def _of(kind, prompt="1+1="):
    class One(vf.Taskset[kind, SumConfig]):
        def load(self):
            for _ in range(2):
                task = kind(SumData(prompt=prompt, answer="2"), self.config.task)
                task.secret = "x"
                yield task

    return One


WithSetUp, WithRuntime, WithoutReward = _of(SetUp), _of(NeedsRuntime), _of(Unrewarded)
WithSecret, WithoutPrompt = _of(Kept), _of(SumTask, None)
