"""Mathematics: what equals the gold answer, which gold answers are refused, and replies made to hang."""

from __future__ import annotations

from typing import Any

import pytest

from covey.build.assemble import prepare
from covey.build.components import build_reward
from covey.config import Component, parse
from covey.rewards.pooled import Pooled
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn
from harness.hostile import HOSTILE

pytest.importorskip("math_verify")

from covey.rewards.math import DEEPEST, Math, depth, heard

TINY = {"config": {"hidden_size": 16}}


def episode(text: str, answer: str | None = "42", sample: int = 0) -> Episode:
    turn = Turn((1,), Completion((2,), None, StopReason.END, 0, text))
    return Episode(Problem("row 7", ({"role": "user", "content": "?"},), answer), sample, (turn,))


def pooled(**limits: Any) -> Pooled:
    made = build_reward(Component.model_validate({"name": "math", "limits": limits}))
    assert isinstance(made, Pooled)
    return made


@pytest.mark.parametrize(
    ("text", "answer", "value"),
    [
        (r"so it is \boxed{42}.", "42", 1.0),
        ("The answer is 42", "42", 1.0),
        ("it is $42.0$", "42", 1.0),
        ("The answer is 43", "42", 0.0),
        ("", "42", 0.0),
        ("I don't know", "42", 0.0),
        (r"\boxed{0.5}", r"\frac{1}{2}", 1.0),
        (r"\boxed{\frac{2}{4}}", "1/2", 1.0),
        (r"$\frac{\sqrt{2}}{2}$", r"\frac{1}{\sqrt{2}}", 1.0),
        (r"$x^2 + 2x + 1$", r"$(x+1)^2$", 1.0),
        (r"$(1, 2)$", "(1,2)", 1.0),
        (r"$\{2, 1\}$", r"\{1,2\}", 1.0),
        (r"\boxed{1, 2, 3, 41, 42}", "42", 0.0),
        ("$41$, no, $42$", "42", 1.0),
        (r"\boxed{41} \boxed{42}", "42", 0.0),  # who says several has said a set
        ("42e1", "42", 0.0),
        ("it is 4.2e1.", "42", 1.0),
        ("4200E-2", "4.2e1", 1.0),
        ("42e9999", "42", 0.0),
        (r"$1/0$", "42", 0.0),
        ("\udcff\u202e42" + "\u0661" * 9, "42", 0.0),
    ],
)
def test_equal_answers_earn_and_others_do_not(text: str, answer: str, value: float) -> None:
    assert Math()([episode(text, answer)]) == [Score(value)]


@pytest.mark.parametrize("answer", ["", "  ", "$", "1" * 5000, "(" * 50 + "1" + ")" * 50])
def test_a_gold_answer_that_can_t_be_read_is_refused(answer: str) -> None:
    with pytest.raises(CoveyError, match="problem 'row 7': math-verify can't read the gold answer"):
        Math().check(episode("1", answer).problem)
    [score] = Math()([episode("1", answer)])
    assert score.value is None
    assert score.error is not None
    assert "can't be read" in score.error


def test_every_gold_answer_of_a_task_is_read_before_the_run(tmp_path: Any) -> None:
    rows = [f'{{"prompt": "{n}?", "answer": "{n}"}}' for n in range(200)]
    rows[150] = '{"prompt": "150?", "answer": "$"}'
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    task = {"name": "jsonl", "path": str(tmp_path / "rows.jsonl"), "heldout": 0.1}
    with pytest.raises(CoveyError, match=r"can't read the gold answer '\$'; mend the row or take it out"):
        prepare(parse({"model": TINY, "task": task, "reward": "math"}))


@pytest.mark.parametrize(("text", "deepest"), [("", 0), ("([{}])", 3), (")))(", 1), ("()()", 1), ("((", 2)])
def test_depth(text: str, deepest: int) -> None:
    assert depth(text) == deepest


def test_what_nests_too_deep_is_no_answer() -> None:
    just = "(" * DEEPEST + "42" + ")" * DEEPEST
    assert Math()([episode(f"${just}$"), episode(f"$({just})$")]) == [Score(1.0), Score(0.0)]


def test_memory_that_runs_out_is_no_wrong_answer() -> None:
    import logging

    def swallow(kind: type[Exception]) -> None:
        try:
            raise kind
        except kind:
            logging.getLogger("math_verify.grader").debug("Error during comparison", exc_info=True)

    with heard():
        swallow(ValueError)
    with pytest.raises(MemoryError), heard():
        swallow(MemoryError)


def test_hostile_answers_cost_their_own_time_and_nobody_s_score() -> None:
    """Eight that never end among 40 right ones: each is killed, and no right one is lost."""
    reward = pooled(seconds=1.0, workers=2)
    texts = [r"\boxed{42}"] * 40
    texts[::5] = HOSTILE[:7] + HOSTILE[7:8]
    scores = reward([episode(text, sample=n) for n, text in enumerate(texts)])
    reward.close()
    assert [n for n, s in enumerate(scores) if n % 5 and s.value != 1.0] == []
    assert all(s.value in (None, 0.0) for s in scores[::5])
    assert {s.fault.kind for s in scores if s.fault} <= {"timeout", "memory", "died"}
    assert all(s.fault for s in scores if s.value is None)


@pytest.mark.slow
def test_not_one_of_a_thousand_right_answers_is_lost_beside_hostile_ones() -> None:
    reward = pooled(seconds=2.0)
    episodes = [episode(rf"so \boxed{{{n}}}", str(n), n) for n in range(1000)]
    for place, text in enumerate(HOSTILE * 2):
        episodes.insert(place * 20, episode(text, "42", 1000 + place))
    scores = reward(episodes)
    reward.close()
    right = [s.value for e, s in zip(episodes, scores, strict=True) if e.sample < 1000]
    assert right == [1.0] * 1000
    hostile = [s.value for e, s in zip(episodes, scores, strict=True) if e.sample >= 1000]
    assert len(hostile) == 2 * len(HOSTILE)
    assert all(value in (None, 0.0) for value in hostile)


@pytest.mark.slow
def test_after_each_hostile_answer_the_next_right_one_is_graded() -> None:
    """How long each takes is measured by bench/pool.py."""
    reward = pooled(seconds=1.0, workers=1)
    for text in HOSTILE:
        [score] = reward([episode(text)])
        assert score.value in (None, 0.0), text[:40]
        assert (score.value is None) == (score.fault is not None), text[:40]
        assert reward([episode("42")]) == [Score(1.0)], text[:40]
    reward.close()
