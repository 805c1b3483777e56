"""Graders that read a reply as text: what they accept, and what hostile text does to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.protocols import Reward
from covey.rewards.choice import Choice
from covey.rewards.exact import Exact
from covey.rewards.format import Format
from covey.rewards.language import Language
from covey.rewards.overlong import Overlong
from covey.rewards.regex import Regex
from covey.types import Completion, CoveyError, Episode, Problem, Score, StopReason, Turn


def score(reward: Reward, text: str, answer: str | None = None, tokens: int = 1) -> Score:
    completion = Completion((5,) * tokens, None, StopReason.END, 0, text)
    return reward([Episode(Problem("p", (), answer), 0, (Turn((1,), completion),))])[0]


def value(reward: Reward, text: str, answer: str | None = None) -> float | None:
    return score(reward, text, answer).value


# exact


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("Paris", "Paris", 1.0),
        ("  New \n York ", "New York", 1.0),
        ("Cafe\u0301", "Café", 1.0),  # e + combining accent is é
        ("paris", "Paris", 0.0),
        ("Paris.", "Paris", 0.0),
        ("It is Paris", "Paris", 0.0),
        ("", "Paris", 0.0),
        ("P\u200baris", "Paris", 0.0),  # a zero-width space is no letter
        ("\u0420aris", "Paris", 0.0),  # a Cyrillic capital that looks the same
    ],
)
def test_exact_compares_the_whole_reply(text: str, answer: str, expected: float) -> None:
    assert value(Exact(), text, answer) == expected


def test_exact_reads_the_one_element_when_there_is_a_tag() -> None:
    reward = Exact(tag="answer", ignore_case=True)
    assert value(reward, "thinking <answer> PARIS </answer> done", "Paris") == 1.0
    assert value(reward, "Paris", "Paris") == 0.0
    assert value(reward, "<answer>Paris", "Paris") == 0.0
    assert value(reward, "</answer>Paris<answer>", "Paris") == 0.0
    assert value(reward, "<answer>Rome</answer><answer>Paris</answer>", "Paris") == 0.0


def test_exact_without_gold_is_not_scored() -> None:
    assert score(Exact(), "Paris") == Score(None, error="the problem has no gold answer")
    assert score(Exact(), "", "  ").value is None


# choice


@pytest.mark.parametrize(
    "text",
    [
        "B",
        " (B) ",
        "B.",
        "**B**",
        "B) Paris",
        "The capital of France is asked for.\n\nB. Paris",
        "Answer: B",
        "The answer is (B).",
        "the correct answer is **B**, since A is in Italy",
        "I choose option B",
        "Option B is correct.",
        r"So \boxed{B}",
        r"\boxed{\text{B}}",
        "A is Rome, C is Madrid.\nAnswer: B",
        "The answer is B. The answer is B.",
    ],
)
def test_choice_accepts_a_letter_that_is_settled_on(text: str) -> None:
    assert value(Choice(), text, "B") == 1.0
    assert value(Choice(), text, "C") == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A B C D",
        "A, B, C, D",
        "ABCD",
        "(A) (B) (C) (D)",
        "A/B",
        "A) Rome\nB) Paris\nC) Madrid\nD) Bonn",
        "A) Rome B) Paris C) Madrid D) Bonn",
        "D) Bonn C) Madrid A) Rome B) Paris",
        "The answer is A or B",
        "The answer is B and C and D.",
        "The answer is B, or A",
        "The answer is A. The answer is B.",
        "Answer: A\nAnswer: B\nAnswer: C\nAnswer: D",
        r"\boxed{A} \boxed{B}",
        r"\boxed{A, B, C, D}",
        "The answer is not B",
        "Of the options A to D, I like B best of all",
        "Because",
        "\u0412",  # a Cyrillic letter that looks like B
        "b",
    ],
)
@pytest.mark.parametrize("gold", ["A", "B", "C", "D"])
def test_choice_gives_nothing_for_several_letters_or_none(text: str, gold: str) -> None:
    assert value(Choice(), text, gold) == 0.0


def test_choice_reads_a_gold_answer_in_its_usual_forms() -> None:
    assert value(Choice(), "B", "(B)") == 1.0
    assert value(Choice(), "B", " B. ") == 1.0
    for gold in (None, "", "Paris", "b", "K"):
        assert score(Choice(), "B", gold).value is None
    assert "letters ABC" in str(score(Choice(letters="ABC"), "D", "D").error)
    with pytest.raises(CoveyError, match="two capitals"):
        Choice(letters="aB")


def test_choice_reads_what_stands_in_its_tag() -> None:
    assert value(Choice(tag="answer"), "A? C? <answer>B</answer>", "B") == 1.0
    assert value(Choice(tag="answer"), "B", "B") == 0.0


@given(st.permutations(["A", "B", "C", "D"]), st.sampled_from([" ", ", ", "\n", "/", " or ", ") x ", ". "]))
def test_no_listing_of_all_options_is_an_answer(letters: list[str], between: str) -> None:
    for text in (between.join(letters), "The answer is " + between.join(letters)):
        found = [gold for gold in letters if value(Choice(), text, gold) == 1.0]
        # `A) x B) x …` after `The answer is` names one and drifts off: that is settling on the first
        assert found == [] or (text.startswith("The") and found == letters[:1])


# regex


def test_regex_compares_what_it_captures() -> None:
    reward = Regex(pattern=r"#### (?P<answer>-?\d+)")
    assert value(reward, "so\n#### 42", "42") == 1.0
    assert value(reward, "so\n#### -42", "42") == 0.0
    assert value(reward, "42", "42") == 0.0
    assert value(reward, "#### 41 #### 42", "42") == 0.0
    assert value(reward, "#### 42 or #### 42", "42") == 1.0
    assert score(reward, "#### 42").error == "the problem has no gold answer"


def test_regex_without_the_group_must_match_it_all() -> None:
    assert value(Regex(pattern=r"(yes|no)"), " yes\n") == 1.0
    assert value(Regex(pattern=r"(yes|no)"), "yes or no") == 0.0
    assert value(Regex(pattern=r"YES", ignore_case=True), "yes") == 1.0
    with pytest.raises(CoveyError, match="no regular expression: missing"):
        Regex(pattern="(")


# format


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<think>so</think><answer>4</answer>", True),
        ("\n<think>\nso\n</think>\n\n<answer>\n4\n</answer>\n", True),
        ("<think>so</think><answer></answer>", False),
        ("<think> </think><answer>4</answer>", False),
        ("<answer>4</answer><think>so</think>", False),
        ("<think>so</think>4<answer>4</answer>", False),
        ("<think>so</think><answer>4</answer> bye", False),
        ("<think>so<answer>4</answer></think>", False),
        ("<think>so</think><answer>4</answer><answer>5</answer>", False),
        ("<think>so</think><answer>4", False),
        ("<THINK>so</THINK><answer>4</answer>", False),
        ("<think>" * 50_000, False),
        ("", False),
    ],
)
def test_format_wants_its_elements_and_nothing_else(text: str, kept: bool) -> None:
    assert value(Format(), text) == float(kept)


def test_format_takes_other_tags() -> None:
    assert value(Format(tags=["plan", "code"]), "<plan>x</plan> <code>y</code>") == 1.0
    for tags in ([], "think", ["a", "a"], ["<a>"]):
        with pytest.raises(CoveyError, match="tag"):
            Format(tags=tags)


# language


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "So it is four", 1.0),
        ("en", "So 是 four 四", 0.5),
        ("zh", "答案是四", 1.0),
        ("zh", "答案是 four", 3 / 4),  # three characters and one word
        ("ja", "これは猫です", 1.0),
        ("ru", "Ответ is", 0.5),
        ("en", "naïve cafe\u0301", 1.0),
        ("zh", r"<think>答案</think> \frac{1}{2}", 1.0),  # neither tags nor LaTeX are words
        ("en", "42 + 1 = 43", 0.0),
        ("en", "", 0.0),
        ("en", "don't", 1.0),
    ],
)
def test_language_is_the_share_of_words_in_its_script(language: str, text: str, expected: float) -> None:
    assert value(Language(language), text) == pytest.approx(expected)


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(CoveyError, match="unknown language 'xx'"):
        Language("xx")


# overlong


@pytest.mark.parametrize(
    ("length", "expected"),
    # DAPO's own numbers: free up to 20,480 - 4,096 = 16,384
    [
        (1, 0.0),
        (16_384, 0.0),
        (16_385, -1 / 4096),
        (17_408, -0.25),
        (18_432, -0.5),
        (20_480, -1.0),
        (20_481, -1.0),
    ],
)
def test_overlong_is_equation_13(length: int, expected: float) -> None:
    assert score(Overlong(20_480, 4_096), "", tokens=length).value == expected


def test_overlong_wants_a_cache_within_its_limit() -> None:
    with pytest.raises(CoveyError, match="at most max_tokens = 10, not 11"):
        Overlong(10, 11)


# all of them


HOSTILE = [
    "\x00" * 1000,
    "\u202e" * 1000,
    "\u0301" * 5000,
    "(" * 20_000,
    "A" * 200_000,
    "A " * 100_000,
    "\n" * 100_000,
    "B) A) " * 50_000,
    r"\boxed{" * 20_000,
    "answer is " * 20_000,
    "<answer>" * 20_000,
    "\U000e0041" * 1000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:8]))
def test_hostile_text_earns_nothing(text: str) -> None:
    for reward in (Exact(), Choice(), Regex(pattern=r"#### (?P<answer>\w+)"), Exact(tag="answer"), Format()):
        assert value(reward, text, "B") == 0.0


@given(st.text(max_size=200), st.text(max_size=20))
def test_any_text_gets_a_score_and_always_the_same(text: str, answer: str) -> None:
    for reward in (Exact(), Choice(), Format(), Language(), Regex(pattern=r"(?P<answer>\w+)")):
        assert score(reward, text, answer) == score(reward, text, answer)
