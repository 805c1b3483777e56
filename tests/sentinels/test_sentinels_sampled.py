"""Sentinels that look at the engine and at what was sampled: what they find and what they let pass."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from covey.sentinels import Setting
from covey.sentinels.sentinel import Finding
from covey.sentinels.unscored import SETTLED
from covey.types import Fault, Group, Score, Weights
from sentinels_plain import MARKS, complete, episode, group, posted

# weights


def weights_setting(engine: dict[str, str], learner: dict[str, str]) -> Setting:
    return Setting(engine_weights=lambda: engine, learner_weights=lambda: learner)


def test_equal_weights_and_versions_pass() -> None:
    sentinel = posted("weights", weights_setting({"a": "1", "b": "2"}, {"b": "2", "a": "1"}))
    assert sentinel.blind() is None
    assert sentinel.loaded(3, Weights(3, None)) is None
    assert sentinel.sampled(3, [group(episode(0, version=3), episode(1, version=3))]) is None


@pytest.mark.parametrize(
    ("engine", "shown"),
    [
        ({"a": "1", "head": "9"}, "head is 9, not 2"),
        ({"a": "1"}, "head is absent, not 2"),
        ({"a": "1", "head": "2", "extra": "3"}, "extra is 3, not absent"),
    ],
)
def test_a_tensor_that_differs_is_named(engine: dict[str, str], shown: str) -> None:
    sentinel = posted("weights", weights_setting(engine, {"a": "1", "head": "2"}))
    finding = complete(sentinel.loaded(3, Weights(3, None)))
    assert "1 of the 2 tensors" in finding.what
    assert shown in finding.evidence


def test_completions_of_another_version_are_found() -> None:
    sentinel = posted("weights")
    assert sentinel.loaded(2, Weights(2, None)) is None
    finding = complete(sentinel.sampled(2, [group(episode(0, version=2), episode(1, version=1))]))
    assert finding.what == "1 of 2 completions were not sampled by the policy being trained"
    assert "handed version 2" in finding.evidence
    assert "version 1" in finding.evidence


def test_an_engine_that_cannot_say_is_known_to_be_unseen() -> None:
    assert "fingerprint" in (posted("weights").blind() or "")


# template


def test_a_prompt_with_a_mark_of_the_template_passes() -> None:
    assert posted("template", MARKS).sampled(0, [group(episode(0, prompt=(90, 1, 2)))]) is None


def test_a_bare_prompt_is_found() -> None:
    groups = [group(episode(0, prompt=(90, 1))), group(episode(0, prompt=(1, 2)))]
    finding = complete(posted("template", MARKS).sampled(0, groups))
    assert "1 of 2 prompts" in finding.what
    assert "[1, 2]" in finding.evidence
    assert "<|start|> (id 90)" in finding.evidence


def test_without_a_template_there_is_nothing_to_look_for() -> None:
    assert posted("template").sampled(0, [group(episode(0))]) is None
    assert posted("template").blind()


# identical


def test_equal_answers_of_an_unsure_policy_are_found() -> None:
    # 4 × 3 tokens of log p -8: the other three repeat the first with p = exp(-72)
    same = [group(*(episode(s, logp=-8.0) for s in range(4)))]
    finding = complete(posted("identical").sampled(0, same))
    assert "4 of the 4 answers to problem 'p' are the same" in finding.what
    assert "-24.0" in finding.evidence


def test_a_pair_that_shares_its_noise_is_enough() -> None:
    # one pair: p = exp(-30), and 6 pairs to choose from × 4 sizes
    groups = [
        group(
            *(episode(s, ids=(s // 2, 1, 2), logp=-10.0) for s in range(2)), episode(2, ids=(9,), logp=-1.0)
        )
    ]
    assert posted("identical").sampled(0, groups) is not None


def test_a_sure_policy_may_repeat_itself() -> None:
    # exp(-0.03 × 3) = 0.91: each other member repeats it with that probability
    sure = [group(*(episode(s, logp=-0.03) for s in range(8))) for _ in range(16)]
    assert posted("identical").sampled(0, sure) is None


def test_a_half_sure_policy_that_repeats_itself_in_every_group_is_found() -> None:
    # a group: (exp(-0.69))^7 = 0.8 %, nothing special; 16 of 16 groups: 10^-34
    groups = [group(*(episode(s, ids=(1,), logp=-0.69) for s in range(8))) for _ in range(16)]
    assert posted("identical").sampled(0, groups[:4]) is None
    assert posted("identical").sampled(0, groups) is not None


def test_greedy_answers_are_equal_by_nature() -> None:
    same = [group(*(episode(s, logp=-8.0) for s in range(4)))]
    assert posted("identical", Setting(temperature=0.0)).sampled(0, same) is None


def test_an_engine_without_log_probs_gives_no_evidence() -> None:
    same = [group(*(episode(s, logp=None) for s in range(4)))]
    assert posted("identical").sampled(0, same) is None


@pytest.mark.parametrize("sure", [0.2, 0.5, 0.9])
def test_independent_draws_are_taken_for_others_as_seldom_as_stated(sure: float) -> None:
    """2,000 steps of 4 groups of 6 real draws, of 3 tokens from a distribution with one likely word, at
    a ``chance`` of 1 % for each of two events: 40 false alarms are the bound."""
    draws = random.Random(0)
    words = [sure] + [(1 - sure) / 4] * 4
    alarms = 0
    for _ in range(2000):
        groups = []
        for _ in range(4):
            members = []
            for s in range(6):
                ids = draws.choices(range(5), words, k=3)
                e = episode(s, ids=ids)
                logp = tuple(math.log(words[i]) for i in ids)
                turn = replace(e.turns[0], completion=replace(e.turns[0].completion, sampler_logp=logp))
                members.append(replace(e, turns=(turn,)))
            groups.append(group(*members))
        alarms += posted("identical", chance=0.01).sampled(0, groups) is not None
    assert alarms <= 40


# micro_batch


def split_setting(*differences: float | None, dtype: str = "float32") -> Setting:
    answers = iter(differences)
    return Setting(dtype=dtype, split_difference=lambda groups: next(answers))


def test_rounding_passes_and_is_asked_for_once() -> None:
    sentinel = posted("micro_batch", split_setting(None, 2e-7))  # no signal at the first step
    assert sentinel.sampled(0, ()) is None
    assert sentinel.sampled(1, ()) is None
    assert sentinel.sampled(2, ()) is None  # a third question would be a StopIteration
    assert posted("micro_batch", split_setting(0.01, dtype="bfloat16")).sampled(0, ()) is None


@pytest.mark.parametrize(
    ("dtype", "difference"), [("float32", 3e-4), ("bfloat16", 0.1), ("float32", math.inf)]
)
def test_a_gradient_that_depends_on_the_split_is_found(dtype: str, difference: float) -> None:
    sentinel = posted("micro_batch", split_setting(difference, dtype=dtype))
    finding = complete(sentinel.sampled(0, ()))
    assert "micro-batch" in finding.what


# unscored


def test_unscored_answers_within_the_budget_pass() -> None:
    members = [episode(s) for s in range(10)]
    assert posted("unscored").sampled(0, [group(*members, scores=[None] * 2 + [1.0] * 8)]) is None


def test_unscored_answers_over_the_budget_are_found_with_their_errors() -> None:
    members = [episode(s) for s in range(10)]
    finding = complete(posted("unscored").sampled(0, [group(*members, scores=[None] * 3 + [1.0] * 7)]))
    assert finding.what == "3 of 10 completions have no score, more than the budget of 20%"
    assert finding.evidence == "3 × 'the grader timed out'"


def test_the_first_traceback_of_each_kind_of_failure_is_told() -> None:
    slow = Score(None, error="f took longer than 5 s", fault=Fault("timeout"))
    bugs = [Score(None, error=f"f raised {n}", fault=Fault("raised", f"Traceback\n  {n}")) for n in (1, 2)]
    members = [episode(s) for s in range(10)]
    scores = (*bugs, slow, *[Score(1.0)] * 7)
    finding = complete(posted("unscored").sampled(0, [Group(members[0].problem, tuple(members), scores)]))
    first, *trace = finding.evidence.splitlines()
    assert first.startswith("raised 2, timeout 1: 1 × 'f raised 1'; ")
    assert trace == ["    first raised:", "      Traceback", "        1"]
    assert finding.level is None


def test_within_the_budget_a_failed_grader_is_a_warning_and_a_missing_verdict_is_nothing() -> None:
    members = [episode(s) for s in range(10)]

    def found(fault: Fault | None) -> Finding | None:
        scores = (Score(None, error="why", fault=fault), *[Score(1.0)] * 9)
        return posted("unscored").sampled(0, [Group(members[0].problem, tuple(members), scores)])

    assert found(None) is None
    assert found(Fault("none")) is None  # the grader said that it has no verdict
    finding = complete(found(Fault("timeout")))
    assert finding.level == "warn"
    assert finding.what == "1 of 10 completions have no score"


def test_the_run_has_a_budget_too_once_it_has_settled() -> None:
    """2 of 10 a step is within a step's 20 %, and twice the run's 10 %."""
    watched = posted("unscored")
    step = [group(*[episode(s) for s in range(10)], scores=[None] * 2 + [1.0] * 8)]
    for number in range(SETTLED - 1):
        assert watched.sampled(number, step) is None
        watched.remember(number, {"unscored": 2.0, "episodes": 10.0})
    finding = complete(watched.sampled(SETTLED - 1, step))
    assert finding.what == "20 of the run's 100 completions have no score, more than its budget of 10%"
    assert posted("unscored", run_budget=0.3).sampled(SETTLED - 1, step) is None
