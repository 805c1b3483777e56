"""Nothing a model writes reaches the terminal as a command."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.view.text import safe, shorten


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;new title\x07text", "text"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\after", "after"),  # a device control string
        ("\x9b31mred", "red"),  # the 8-bit form of ESC [
        ("\x9d0;title\x9ctext", "text"),
        ("\x1bcreset", "reset"),
        ("\x1b(0line", "line"),
        ("never \x1b]0;ended", "never 0;ended"),
        ("\x1b", ""),
        ("over\rwrite\b\a\0", "overwrite"),
        ("1\n2\t3", "1⏎2 3"),
        ("\u202eevil\u202c", "⟨U+202E⟩evil⟨U+202C⟩"),
        ("\u2066a\u2069\u200b\ufeff", "⟨U+2066⟩a⟨U+2069⟩⟨U+200B⟩⟨U+FEFF⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),  # an invisible tag character
        ("\ud800", "⟨U+D800⟩"),  # a lone surrogate, which can't be encoded
        ("[red]not markup[/red] :smile:", "[red]not markup[/red] :smile:"),
        ("naïve 数学 مرحبا 🙂", "naïve 数学 مرحبا 🙂"),
    ],
)
def test_hostile_text_is_shown_as_what_it_is(hostile: str, shown: str) -> None:
    assert safe(hostile) == shown


@given(st.text(st.characters()) | st.text("\x1b\x9b\x9d\x9c\x07[]PX;0m\\ a\n"))
def test_no_control_or_format_character_is_left(text: str) -> None:
    categories = {unicodedata.category(character) for character in safe(text)}

    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"])))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert safe(text) == text


def test_a_long_text_keeps_its_end_where_the_answer_is() -> None:
    text = "x" * 500 + " The answer is 46."

    assert shorten(text, 40) == "x" * 12 + " … " + "xxxxxxx The answer is 46."  # 12 + 3 + 25 = 40


@given(st.text(), st.integers(6, 50))
def test_short_means_within_the_limit(text: str, limit: int) -> None:
    short = shorten(text, limit)

    assert len(short) <= limit
    assert short == text or len(text) > limit
