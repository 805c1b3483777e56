"""The evaluator: when it is due, what it asks for, and what it makes of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from covey.evals.evaluate import Evaluator, difference, scored, summary
from covey.evals.intervals import paired
from covey.protocols import Chat, Evaluate, Sampler
from covey.types import (
    Answer,
    Completion,
    CoveyError,
    Episode,
    Evaluation,
    Message,
    Problem,
    Request,
    Score,
    StopReason,
)

PROBLEMS = tuple(Problem(str(n), ({"role": "user", "content": str(n)},), answer=str(n)) for n in (1, 2, 3))


class Letters:
    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return tuple(map(ord, messages[0]["content"]))


@dataclass
class Scripted:
    """Answers every request by a script, last one first."""

    script: Callable[[Request], tuple[str, StopReason]]
    calls: list[list[Request]] = field(default_factory=list)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Completion]]:
        self.calls.append(list(requests))
        for index in reversed(range(len(requests))):
            text, stop = self.script(requests[index])
            yield index, Completion(tuple(map(ord, text)), None, stop, 0, text)


def exact(episodes: Sequence[Episode]) -> list[Score]:
    assert len({episode.problem.id for episode in episodes}) == 1
    return [Score(float(e.text == e.problem.answer) if e.text != "?" else None) for e in episodes]


def echo(request: Request) -> tuple[str, StopReason]:
    """Greedy is right; sample 1 of problem 2 is cut off, of problem 3 fails, else wrong."""
    if request.sampling.temperature == 0:
        return request.key.problem_id, StopReason.END
    stops = {("2", 1): StopReason.LENGTH, ("3", 1): StopReason.ERROR}
    return f"x{request.key.sample}", stops.get((request.key.problem_id, request.key.sample), StopReason.END)


def evaluator(
    sampler: Sampler, every: int = 2, problems: Sequence[Problem] = PROBLEMS, samples: int = 2
) -> Evaluator:
    return Evaluator(
        sampler, Letters(), exact, problems, samples=samples, max_new_tokens=8, seed=7, every=every, last=5
    )


def test_it_is_due_before_between_and_after() -> None:
    assert isinstance(evaluator(Scripted(echo)), Evaluate)
    assert isinstance(Letters(), Chat)
    due = [step for step in range(7) if evaluator(Scripted(echo))(step)]
    assert due == [0, 2, 4, 5, 6]
    assert [step for step in range(7) if evaluator(Scripted(echo), every=0)(step)] == [0, 5]


def test_it_asks_greedily_once_and_for_samples_side_by_side() -> None:
    sampler = Scripted(echo)
    evaluator(sampler)(4)
    greedy, sampled = sampler.calls
    assert [(r.prompt_ids, r.sampling.temperature, r.key.sample) for r in greedy] == [
        ((ord(p.id),), 0.0, 0) for p in PROBLEMS
    ]
    assert [(r.prompt_ids, r.sampling.temperature, r.key.sample) for r in sampled] == [
        ((ord(p.id),), 1.0, sample) for p in PROBLEMS for sample in (0, 1)
    ]
    for request in (*greedy, *sampled):
        assert (request.key.seed, request.key.step, request.key.purpose) == (7, 4, "eval")
        assert request.sampling.max_new_tokens == 8
        assert request.key.problem_id == chr(request.prompt_ids[0])


def test_answers_keep_problem_and_sample_order_and_an_engine_failure_is_not_scored() -> None:
    evaluation = evaluator(Scripted(echo))(0)
    assert evaluation is not None
    assert [answer.scores for answer in evaluation.greedy] == [(Score(1.0),)] * 3
    assert evaluation.sampled[1] == Answer(
        problem_id="2",
        scores=(Score(0.0), Score(0.0)),
        texts=("x0", "x1"),
        token_ids=((ord("x"), ord("0")), (ord("x"), ord("1"))),
        stops=(StopReason.END, StopReason.LENGTH),
    )
    assert evaluation.sampled[2].scores == (Score(0.0), Score(None, error="the engine failed"))


def test_a_problem_whose_completions_all_failed_is_not_graded() -> None:
    evaluation = evaluator(Scripted(lambda request: ("", StopReason.ERROR)))(0)
    assert evaluation is not None
    assert scored(evaluation.greedy) == {}
    assert summary(evaluation)["unscored"] == 9


def test_a_summary_counts_what_it_left_out() -> None:
    evaluation = evaluator(Scripted(echo))(2)
    assert evaluation is not None
    found = summary(evaluation)
    assert json.loads(json.dumps(found)) == found
    # Wilson for 3 of 3: 1 / (1 + 1.96²/3) = 0.4385; for 0 of 3 the same from the other end
    assert found == {
        "step": 2,
        "greedy": {"mean": 1.0, "low": pytest.approx(0.4385, abs=1e-4), "high": 1.0},
        "sampled": {"mean": 0.0, "low": 0.0, "high": pytest.approx(0.5615, abs=1e-4)},
        "problems": 3,
        "completions": 9,
        "unscored": 1,
        "truncated": 1,
    }


def test_nothing_scored_is_no_score() -> None:
    found = summary(evaluator(Scripted(lambda request: ("?", StopReason.END)))(0) or Evaluation(0, (), ()))
    assert found["greedy"] == found["sampled"] == {"mean": None, "low": None, "high": None}
    assert found["unscored"] == 9


def answers(*values: Sequence[float | None]) -> list[Answer]:
    return [
        Answer(
            str(n),
            tuple(map(Score, scores)),
            ("",) * len(scores),
            ((),) * len(scores),
            (StopReason.END,) * len(scores),
        )
        for n, scores in enumerate(values)
    ]


def test_a_difference_is_paired_by_problem_without_the_unscored() -> None:
    before = answers([0.0, None], [0.0, 1.0], [None, None], [1.0, 1.0])
    after = answers([1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [None, None])
    expected = paired({"0": [0.0], "1": [0.0, 1.0]}, {"0": [1.0, 1.0], "1": [1.0, 1.0]})
    assert difference(before, after[::-1]) == expected
    assert expected.mean == 0.75  # gains of 1 and 0.5
    assert expected.low <= 0  # two problems prove nothing


def test_a_difference_needs_the_same_problems_and_a_score() -> None:
    with pytest.raises(
        CoveyError, match="needs the same problems: 1 are only before, 0 only after, such as '1'"
    ):
        difference(answers([1.0], [1.0]), answers([1.0]))
    with pytest.raises(CoveyError, match="no problem was scored both before and after"):
        difference(answers([1.0], [None]), answers([None], [1.0]))


def test_a_reward_that_returns_too_few_scores_is_named() -> None:
    short = replace(evaluator(Scripted(echo)), reward=lambda episodes: [])
    with pytest.raises(CoveyError, match="the reward returned 0 scores for 1 completions of problem '1'"):
        short(0)


def test_an_evaluator_needs_problems_and_samples() -> None:
    with pytest.raises(CoveyError, match="no held-out problems"):
        evaluator(Scripted(echo), problems=())
    with pytest.raises(CoveyError, match="at least once, not 0 times"):
        evaluator(Scripted(echo), samples=0)
