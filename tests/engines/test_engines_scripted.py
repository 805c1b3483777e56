"""The shipped fake keeps an engine's promises, so that what runs on it runs on a real one."""

from __future__ import annotations

import pytest

from covey.engines.scripted import END, ScriptedChat, ScriptedEngine
from covey.protocols import Chat, Engine
from covey.types import Completion, DrawKey, Request, Sampling, StopReason, Weights


def request(problem: str, sample: int, most: int = 8) -> Request:
    return Request((1, 2), Sampling(most), DrawKey(0, 0, problem, sample))


def test_it_is_an_engine_and_a_chat() -> None:
    assert isinstance(ScriptedEngine([""]), Engine)
    assert isinstance(ScriptedChat(), Chat)
    assert ScriptedChat().prompt([{"role": "system", "content": "A"}, {"role": "user", "content": "B"}]) == (
        65, 10, 66,
    )  # fmt: skip


def test_samples_get_the_replies_in_turn_whatever_the_order() -> None:
    engine = ScriptedEngine(["yes", "no"])
    asked = [request(problem, sample) for problem in "ab" for sample in range(3)]
    given = list(engine.generate(asked))
    assert [index for index, _ in given] == [5, 4, 3, 2, 1, 0]
    assert [completion.text for _, completion in sorted(given, key=lambda pair: pair[0])] == [
        "yes", "no", "yes", "yes", "no", "yes",
    ]  # fmt: skip
    assert engine.asked == [tuple(asked)]


def test_a_reply_is_its_characters_and_the_end() -> None:
    [(_, completion)] = ScriptedEngine(["hi"], logp=-0.5).generate([request("a", 0)])
    assert completion == Completion((104, 105, END), (-0.5, -0.5, -0.5), StopReason.END, 0, "hi")


@pytest.mark.parametrize(
    ("most", "stop", "text"),
    [(3, StopReason.END, "hi"), (2, StopReason.LENGTH, "hi"), (1, StopReason.LENGTH, "h")],
)
def test_it_stops_at_the_limit(most: int, stop: StopReason, text: str) -> None:
    [(_, completion)] = ScriptedEngine(["hi"]).generate([request("a", 0, most)])
    assert (completion.stop, completion.text, len(completion.token_ids)) == (stop, text, most)


def test_a_function_answers_what_it_is_asked() -> None:
    engine = ScriptedEngine(lambda r: None if r.key.sample else r.key.problem_id)
    engine.load(Weights(7, None))
    answers = dict(engine.generate([request("12", 0), request("12", 1)]))
    assert answers[0].text == "12"
    assert answers[1] == Completion((), (), StopReason.ERROR, 7)
