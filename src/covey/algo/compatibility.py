"""Which choices contradict each other, and why. Everything else may be combined."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, TypeAlias

from covey.algo.choice import Choice
from covey.algo.correction import TOKEN_LEVEL
from covey.algo.surrogate import SURROGATES

Name: TypeAlias = str | Callable[..., Any]
"""A function of one's own is no name below, so that nothing is assumed about it."""

_LEVELS: dict[Name, str] = {
    "gmpo": "token",
    "vespo": "sequence_product",
    "cispo": "token",
    "dppo_tv": "token",
    "dppo_kl": "token",
    "kl_cov": "token",
}
"""The ratio level of the surrogates that are defined at one only."""

_WITHOUT_RATIO = ("reinforce", "luffy", "nll")
_WITHOUT_ADVANTAGE = ("nll", "reverse_kl")
_MISMATCH = frozenset(
    {"token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_mask", "veto"}
)


def refusal(
    *,
    advantage: Choice,
    surrogate: Choice,
    ratio: Choice,
    kl: Choice | None,
    kl_in: str,
    selection: Choice | None,
    correction: tuple[Choice, ...],
    truncated: str,
    reads: Set[str],
) -> str | None:
    """Why these choices can't stand together, or None when they can.

    ``reads`` is what their per-token functions read (`Algorithm.reads`).
    """
    names = [choice.name for choice in correction]
    return (
        _level(surrogate.name, ratio, names)
        or _signal(advantage.name, surrogate.name, names)
        or _penalty(kl, kl_in, surrogate.name)
        or _cut_off(truncated, kl, kl_in)
        or _selected(selection, "selection" in reads)
    )


def controlled(
    *,
    kl: Choice | None,
    kl_control: Choice | None,
    entropy: Choice | None,
    entropy_control: Choice | None,
    reads: Set[str],
) -> str | None:
    """Why a coefficient can't be moved in this way, or None when it can, or isn't."""
    for name, term, control in (("kl", kl, kl_control), ("entropy", entropy, entropy_control)):
        if control is None:
            continue
        if term is None:
            return f"{name}_control moves the coefficient of {name}, but there is none: choose {name} too"
        if "coefficient" not in term.params:
            return f"{name}_control begins with the coefficient of {name} {term.label!r}: give it one"
    if kl_control is not None and "reference" not in reads and kl is not None and callable(kl.name):
        return f"kl_control holds the distance to the reference, which kl {kl.label!r} doesn't read"
    return _kl_control(kl, kl_control) or _entropy_control(entropy, entropy_control)


def _kl_control(kl: Choice | None, control: Choice | None) -> str | None:
    if kl is None or control is None:
        return None
    if kl.params.get("against", "reference") != "reference":
        return (
            f"kl_control holds the distance to the reference, and kl {kl.label!r} is against the "
            f"{kl.params['against']}, from which the policy starts again at every step"
        )
    if kl.params["coefficient"] <= 0:
        return "kl_control multiplies the coefficient, and from 0 it never moves: begin above 0"
    for name in ("target", "horizon"):
        if control.params.get(name, 1) <= 0:
            return f"kl_control divides by its {name}, which must be above 0: {control.params[name]}"
    return None


def _entropy_control(entropy: Choice | None, control: Choice | None) -> str | None:
    if entropy is None or control is None or control.name != "adaptive":
        return None
    low, high = control.params.get("low", 0.0), control.params.get("high", 1.0)
    first, delta = entropy.params["coefficient"], control.params.get("delta", 0.005)
    if not low <= first <= high:
        return f"entropy_control keeps the coefficient within [{low}, {high}], and it begins at {first}"
    if delta <= 0:
        return f"entropy_control takes steps of delta towards its target, which must be above 0: {delta}"
    return None


def _level(surrogate: Name, ratio: Choice, corrections: list[Name]) -> str | None:
    level = _LEVELS.get(surrogate, ratio.name)
    if level != ratio.name:
        return f"surrogate {surrogate!r} is defined on ratio {level!r}, not on {ratio.label!r}"
    if ratio.name == "none" and surrogate in SURROGATES and surrogate not in _WITHOUT_RATIO:
        return f"surrogate {surrogate!r} gets its gradient from the ratio, and ratio 'none' has none"
    for name in corrections:
        if name in TOKEN_LEVEL and ratio.name in ("sequence", "sequence_product"):
            return (
                f"correction {name!r} weighs single tokens, but ratio {ratio.name!r} gives a sequence "
                "one ratio, which the tokens weighed down would still enter; use a sequence-level "
                "correction, or ratio 'sequence_token'"
            )
        if name in _MISMATCH and ratio.params.get("against") == "sampler":
            return (
                f"the ratio is already against the sampler; correction {name!r} would count the "
                "mismatch a second time"
            )
    return None


def _signal(advantage: Name, surrogate: Name, corrections: list[Name]) -> str | None:
    if surrogate == "nll" and corrections:
        return f"surrogate 'nll' has no policy term for correction {corrections[0]!r} to weigh"
    if advantage == "none" and surrogate not in _WITHOUT_ADVANTAGE:
        return (
            f"advantage 'none' praises every sequence alike, and surrogate {surrogate!r} would push "
            f"them all up; it is for {' and '.join(_WITHOUT_ADVANTAGE)}"
        )
    return None


def _penalty(kl: Choice | None, kl_in: str, surrogate: Name) -> str | None:
    if kl_in not in ("loss", "reward"):
        return f"kl_in must be 'loss' or 'reward', not {kl_in!r}"
    if kl is None or kl_in == "loss":
        return None
    if kl.name == "ratio_k3":
        return "kl 'ratio_k3' works through its gradient, and a reward has none; use 'k1' there"
    if surrogate in _WITHOUT_ADVANTAGE:
        return f"kl_in 'reward' does nothing for surrogate {surrogate!r}, which reads no reward"
    return None


def _cut_off(truncated: str, kl: Choice | None, kl_in: str) -> str | None:
    if truncated not in ("scored", "masked"):
        return f"truncated must be 'scored' or 'masked', not {truncated!r}"
    if truncated == "masked" and kl is not None and kl_in == "reward":
        return (
            "truncated 'masked' leaves completions out of the update, and kl_in 'reward' needs the KL of "
            "every one of a group for its baseline; put the KL in the loss"
        )
    return None


def _selected(selection: Choice | None, read: bool) -> str | None:
    if read and selection is None:
        return "a choice reads selected tokens, but there is no selection"
    if selection is not None and not read:
        return (
            f"selection {selection.label!r} is read by nobody; use correction 'only_selected' or "
            "'drop_selected', or surrogate 'kl_cov'"
        )
    return None
