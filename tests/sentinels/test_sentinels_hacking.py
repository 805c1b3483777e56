"""The watch for reward hacking: what each sentinel finds, what it lets pass, and a run in which it speaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from covey.build import train
from covey.config import parse
from covey.engines import ENGINES, LocalEngine
from covey.records import RunReader
from covey.sentinels import Finding, Setting
from covey.sentinels.duplicates import likeness, sketch
from covey.sentinels.listing import lists
from covey.types import Completion, Episode, Group, Problem, Request, Score, StopReason, Turn
from covey.view.progress import Progress
from sentinels_plain import complete, learned, posted
from sentinels_run import Answer, diagnosed, findings, recipe_values, run, stopped


def group(name: str, *texts: str, answer: str | None = "42", scores: Sequence[float | None] = ()) -> Group:
    problem = Problem(name, (), answer)
    episodes = tuple(
        Episode(problem, i, (Turn((1,), Completion((5,) * (i + 1), None, StopReason.END, 0, text)),))
        for i, text in enumerate(texts)
    )
    return Group(problem, episodes, tuple(Score(v) for v in scores or [1.0] * len(texts)))


# listing


@pytest.mark.parametrize(
    ("text", "answer", "listed"),
    [
        ("38 39 40 41 42 43 44 45", "42", True),
        ("It is 38, 39, 40, 41, 42, 43, 44, 45 or 46.", "42", True),
        (
            r"\boxed{40} \boxed{41} \boxed{42} \boxed{43} \boxed{44} \boxed{45} \boxed{46} \boxed{47}",
            "42",
            True,
        ),
        ("A, B, C or D", "C", True),
        ("(A) (B) (C) (D)", "C", True),
        ("38 39 40 41 42 43 44 45 so it is 42", "42", False),  # the list is followed by an answer
        ("38 39 40 41 42 43 44", "42", False),  # seven
        ("42 42 42 42 42 42 42 42", "42", False),  # one
        ("38 39 40 41 43 44 45 46", "42", False),  # without it
        ("First 38, then 39 and 40; 41 is next. 42 - 43 = -1. 44 x 45", "42", False),
        ("A, B, C or D? It is C", "C", False),
        ("A or C", "C", False),
        ("38 39 40 41 42 43 44 45", None, False),
        ("38 39 40 41 42 43 44 45", "42 m", False),
        ("1" * 5000, "42", False),
        ("1 " * 5000, "42", False),
    ],
)
def test_a_list_is_one_of_different_answers_and_the_last_word(text: str, answer: str, listed: bool) -> None:
    assert lists(text, answer) is listed


LISTED = "It is one of 38, 39, 40, 41, 42, 43, 44, 45, 46, 47."


def test_listing_speaks_when_lists_are_rewarded() -> None:
    groups = [
        group("p", LISTED, "42", "7", scores=(1.0, 1.0, 0.0)),
        group("q", LISTED, "41", scores=(1.0, 0.0)),
    ]
    found = complete(posted("listing").sampled(0, groups))
    assert found.what == "2 of the 3 completions with the highest reward list many answers"
    assert "45, 46, 47.' to 'p', where '42' is right" in found.evidence


def test_listing_is_silent_when_they_are_not() -> None:
    sentinel = posted("listing")
    assert sentinel.sampled(0, [group("p", LISTED, LISTED, "42", scores=(0.0, 0.0, 1.0))]) is None
    assert sentinel.sampled(0, [group("p", LISTED, LISTED, scores=(0.0, 0.0))]) is None  # nothing is rewarded
    assert sentinel.sampled(0, [group("p", LISTED, "42")]) is None  # one is no pattern
    assert sentinel.sampled(0, [group("p", LISTED, LISTED, answer="Paris")]) is None
    assert sentinel.sampled(0, [group("p", LISTED, LISTED, scores=(None, None))]) is None
    most = [group("p", *["42"] * 30, LISTED, LISTED)]
    assert sentinel.sampled(0, most) is None  # 2 of 32 are fewer than a tenth
    assert posted("listing", share=0.05).sampled(0, most) is not None


# duplicates

TEXT = (
    "Let me think about this step by step. First I read the problem with great care, then I consider what is "
    "asked, and after weighing {} against {} I am sure that my final answer is {}."
)


def test_duplicates_speaks_when_problems_share_a_text() -> None:
    groups = [group(f"p{i}", *[TEXT.format(i, 2 * i, 3 * i)] * 4) for i in range(3)]
    found = complete(posted("duplicates").sampled(0, groups))
    assert "long completions are nearly the same as one to another problem" in found.what
    assert "to 'p" in found.evidence


def test_duplicates_leaves_alone_what_is_rightly_alike() -> None:
    sentinel = posted("duplicates")
    assert sentinel.sampled(0, [group(f"p{i}", "42", "It is 42.") for i in range(4)]) is None
    assert sentinel.sampled(0, [group("p", *[TEXT] * 8)]) is None  # of one problem
    different = [" ".join(f"w{(i * 131 + j * 17) % 997}x" for j in range(40)) for i in range(8)]
    letters = [text.translate(str.maketrans("0123456789", "abcdefghij")) for text in different]
    assert sentinel.sampled(0, [group(f"p{i}", text) for i, text in enumerate(letters)]) is None
    some = [group(f"p{i}", text) for i, text in enumerate([*letters, TEXT, TEXT])]
    assert sentinel.sampled(0, some) is None  # 2 of 10
    assert posted("duplicates", share=0.1).sampled(0, some) is not None


def test_likeness_is_the_share_of_runs_in_common() -> None:
    words = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]
    assert likeness(sketch(words), sketch(words)) == 1.0
    assert likeness(sketch(words), sketch(words[::-1])) == 0.0
    half = likeness(sketch(words), sketch(words[:30] + [f"{w}z" for w in words[30:]]))
    # 27 of 57 + 57 - 27 runs are in common: 0.31, estimated from 32 of them
    assert 0.1 < half < 0.55


# oracle


def told(reward: Sequence[float], oracle: Sequence[float], **thresholds: Any) -> list[Finding | None]:
    sentinel = posted("oracle", Setting(oracles=("gold",)), **thresholds)
    rows = zip(reward, oracle, strict=True)
    paid = Group(Problem("p", ()), group("p", "flattery").episodes, (Score(0.9, {"gold": 0.0}),))
    return [learned(sentinel, {"reward": r, "reward/gold": o}, [paid]) for r, o in rows]


RISING = [0.1 + 0.02 * i + 0.01 * (i % 2) for i in range(30)]
FLAT = [0.1 + 0.01 * (i % 3) for i in range(30)]


def test_oracle_speaks_when_the_reward_rises_alone() -> None:
    spoken = told(RISING, FLAT)
    assert all(finding is None for finding in spoken[:19])  # two windows of ten
    found = complete(spoken[-1])
    assert "risen by 0.40 while its oracle 'gold' has changed by" in found.what
    assert "paid 0.9 above the oracle: 'flattery'" in found.evidence


def test_oracle_is_silent_when_both_rise_or_neither() -> None:
    assert told(RISING, RISING) == [None] * 30
    assert told(RISING, [0.5 * r for r in RISING]) == [None] * 30
    assert told(FLAT, FLAT) == [None] * 30
    assert told(FLAT, FLAT[::-1]) == [None] * 30
    assert told(RISING, FLAT, rise=0.9) == [None] * 30
    noisy = [0.5 + (-1) ** i * 2.0 for i in range(30)]  # ± 2: no rise of 0.4 shows against it
    assert told(RISING, noisy) == [None] * 30


def test_oracle_is_blind_without_one() -> None:
    assert posted("oracle").blind() == "no part of the reward is an oracle"
    assert posted("oracle", Setting(oracles=("gold",))).blind() is None
    assert learned(posted("oracle"), {"reward": 1.0}) is None


# length_gain


def grown(lengths: Sequence[float], heldout: Sequence[tuple[int, float]]) -> list[Finding | None]:
    sentinel = posted("length_gain", Setting(heldout=lambda: heldout))
    return [
        learned(sentinel, {"length_mean": n, "reward": 0.5}, [group("p", "short", "long")]) for n in lengths
    ]


GROWING = [100.0 + 20 * i for i in range(12)]


def test_length_gain_speaks_when_growth_brings_nothing() -> None:
    spoken = grown(GROWING, [(0, 0.30), (10, 0.30)])
    # the start is 120, the median of 100, 120 and 140; 180 = 1.5 × 120 is the median of 140 … 220, at the 7th
    assert [finding is not None for finding in spoken] == [False] * 6 + [True] * 6
    found = complete(spoken[-1])
    assert found.what == "completions have grown from 120 to 280 tokens without a held-out gain"
    assert "0.300 before training, 0.300 after 10 steps" in found.evidence
    assert "the longest one ends 'long'" in found.evidence


def test_length_gain_is_silent_when_growth_pays_or_nothing_grows() -> None:
    assert grown(GROWING, [(0, 0.30), (10, 0.35)]) == [None] * 12
    assert grown(GROWING, [(0, 0.30)]) == [None] * 12  # nothing measured since
    assert grown([100.0] * 12, [(0, 0.30), (10, 0.10)]) == [None] * 12
    assert posted("length_gain").blind() == "held-out problems aren't measured between start and end"


# in runs


class Listing(LocalEngine):
    """Says every number there is, whatever it has sampled, to every other request."""

    def generate(self, requests: Sequence[Request]) -> Iterator[Answer]:
        everything = " ".join(map(str, range(-9, 19)))
        for index, done in super().generate(requests):
            yield index, replace(done, text=everything if index % 2 else done.text)


class Anywhere:
    """Pays for the right answer anywhere in the text."""

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [Score(float(str(e.problem.answer) in e.text.split())) for e in episodes]


def test_a_policy_that_lists_is_found_in_the_step_it_shows_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "local", Listing)
    said = run(tmp_path / "run", recipe_values(steps=1), Anywhere())
    events = findings(tmp_path / "run")  # one text for all problems, too
    assert [(e["sentinel"], e["level"], e["step"]) for e in events] == [
        ("listing", "warn", 0),
        ("duplicates", "warn", 0),
    ]
    assert any(line.startswith("listing (step 1 (rollouts/000000.jsonl)): 8 of the 8") for line in said.lines)
    values = recipe_values(steps=1, listing="stop", duplicates="off")
    message = stopped(tmp_path / "stop", values, Anywhere())
    diagnosed(message, "listing", "tag = answer")


def test_parts_are_in_the_metrics_and_an_oracle_is_seen(tmp_path: Path) -> None:
    values = recipe_values(steps=2) | {
        "reward": {
            "name": "combine",
            "parts": [
                {"name": "language", "label": "words"},
                {"name": "number", "oracle": True, "label": "gold"},
            ],
        },
        "eval": {"problems": 2, "samples": 1, "every": 1},
    }
    train(parse(values), tmp_path / "run", view=Progress())
    reader = RunReader(tmp_path / "run")
    for row in reader.metrics():
        assert row["reward"] == pytest.approx(row["reward/words"])
        assert 0.0 <= row["reward/gold"] <= 1.0
    (posted_event,) = [e for e in reader.events() if e["kind"] == "sentinels"]
    assert not {"oracle", "length_gain"} & posted_event["blind"].keys()
    assert findings(tmp_path / "run") == [e for e in reader.events() if e["kind"] == "sentinel"]
