"""What an audit finds: checks, each with the places where the record differs from what it implies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

Place: TypeAlias = Mapping[str, int | str]
"""Where in the record, from the large to the small: ``{"step": 3, "group": 4, "sample": 2}``."""

SHOWN = 120
"""Characters of a value that a line shows."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing recorded that isn't what was computed; ``field`` is its name at that place. What is
    wrong in another way is said by ``fault`` alone."""

    place: Place
    field: str = ""
    recorded: Any = None
    computed: Any = None
    fault: str | None = None

    def __str__(self) -> str:
        said = f"{self.field} is {_short(self.recorded)}, recomputed {_short(self.computed)}"
        return f"{where(self.place)}: {self.fault or said}"

    def as_json(self) -> dict[str, Any]:
        return {
            "place": dict(self.place),
            "field": self.field,
            "recorded": _plain(self.recorded),
            "computed": _plain(self.computed),
            "fault": self.fault,
        }


@dataclass(slots=True)
class Check:
    """One line of an audit. ``count`` is how many ``unit`` were compared; ``skipped`` says why none could
    be."""

    name: str
    unit: str
    count: int = 0
    differences: list[Difference] = field(default_factory=list)
    skipped: str | None = None

    @property
    def status(self) -> str:
        """``FAIL``, ``skipped`` or ``ok``."""
        return "FAIL" if self.differences else "skipped" if self.skipped else "ok"

    @property
    def detail(self) -> str:
        """What stands behind the status on its line."""
        if not self.differences:
            return self.skipped or f"{self.count:,} {self.unit}"
        more = len(self.differences) - 1
        return f"{self.differences[0]}" + (f" (and {more:,} more)" if more else "")

    def same(self, place: Place, name: str, recorded: Any, computed: Any, tolerance: float = 0.0) -> None:
        """Compare, and keep what differs. Numbers may differ by ``tolerance``, relative to the larger;
        two NaN are the same."""
        if not _alike(recorded, computed, tolerance):
            self.differs(place, name, recorded, computed)

    def differs(self, place: Place, name: str, recorded: Any, computed: Any) -> None:
        """Keep a difference that was found elsewhere."""
        self.differences.append(Difference(place, name, recorded, computed))

    def fault(self, place: Place, message: str) -> None:
        """Keep what is wrong without there being two values to show."""
        self.differences.append(Difference(place, fault=message))

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "detail": self.detail,
            "differences": [difference.as_json() for difference in self.differences],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """An audit's outcome: ``notes`` say what was left out of the reading, such as a last line cut short,
    and ``not_covered`` what could be edited without a check noticing, and why."""

    run: Path
    checks: list[Check]
    notes: list[str]
    not_covered: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """No check failed. A skipped one hasn't."""
        return not any(check.differences for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "run": str(self.run),
            "ok": self.ok,
            "checks": [check.as_json() for check in self.checks],
            "notes": self.notes,
            "not_covered": dict(self.not_covered),
        }


def where(place: Place) -> str:
    """A place as text: ``step 3, group 4, sample 2``."""
    return ", ".join(f"{name} {value}" for name, value in place.items())


def first_difference(recorded: Any, computed: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first leaf in which two JSON values differ, with its dotted name; None when none does."""
    if isinstance(recorded, Mapping) and isinstance(computed, Mapping):
        for key in (*recorded, *(k for k in computed if k not in recorded)):
            inside = f"{name}.{key}" if name else str(key)
            if key not in recorded or key not in computed:
                return inside, recorded.get(key, "absent"), computed.get(key, "absent")
            if found := first_difference(recorded[key], computed[key], inside):
                return found
        return None
    if _is_list(recorded) and _is_list(computed) and len(recorded) == len(computed):
        for index, (one, other) in enumerate(zip(recorded, computed, strict=True)):
            if found := first_difference(one, other, f"{name}[{index}]"):
                return found
        return None
    if _is_list(recorded) and _is_list(computed):
        return f"length of {name}", len(recorded), len(computed)
    return None if _alike(recorded, computed, 0.0) else (name, recorded, computed)


def _alike(recorded: Any, computed: Any, tolerance: float) -> bool:
    if not (_is_number(recorded) and _is_number(computed)):
        return type(recorded) is type(computed) and recorded == computed
    if math.isnan(recorded) or math.isnan(computed):
        return math.isnan(recorded) and math.isnan(computed)
    return recorded == computed or math.isclose(recorded, computed, rel_tol=tolerance)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON doesn't know becomes its text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if _is_list(value):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
