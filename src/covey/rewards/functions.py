"""Own functions as rewards: the one place where a grader's failure becomes data.

`from_function` takes TRL's signature, ``f(completions, **columns) -> list[float | None]``, called once
for a group; `per_text` takes ``f(text, answer) -> float | None``, called once for an episode. Both may
be async. What raises, or returns anything but finite numbers and None, gives ``Score(None, error=…)``:
the episode is not scored, which is never the same as 0, and the run goes on.
"""

from __future__ import annotations

import asyncio
import copy
import difflib
import inspect
import itertools
import math
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePath
from types import TracebackType
from typing import Any

from covey.types import CoveyError, Episode, Fault, Problem, Score

ERROR_CHARACTERS = 300
TRACE_CHARACTERS = 4000  # the end of a traceback says where and what
EXTRAS = ("log_metric", "log_extra", "trainer_state", "environments")
"""What TRL hands to a function beside the data."""


def from_function(function: Callable[..., Any], *, plain: bool | None = None) -> FunctionReward:
    """Make a reward of a function with TRL's signature, unchanged, sync or async.

    It is called by keyword with what its signature names, or with everything if it takes
    ``**kwargs``. Each argument is a list with one item an episode:

    - ``completions``: ``[{"role": "assistant", "content": text}]`` each, as TRL passes them for
      conversational prompts, which Covey's always are
    - ``prompts``: the problem's messages
    - ``completion_ids``: the token ids after the prompt
    - ``answer``: the gold answer, a string or None
    - every further column of the data row, under its own name and as it stands there; a column
      named like one of the above, ``answer`` included, takes its place only for ``answer``

    If it names them, it also gets TRL's ``log_metric(name, value)`` and ``log_extra(column, values)``, whose
    numbers are kept in ``Score.parts`` (texts aren't), and ``trainer_state`` and ``environments``, which
    are None here: a reward doesn't know the step.

    A function written for strings gets them with ``plain=True``, or by annotating its parameter
    (``completions: list[str]``): completions are then the replies' texts and prompts the text of the
    last message.

    Raises:
        CoveyError: it can't be called.
    """
    if not callable(function):
        raise CoveyError(f"a reward must be a function, not {type(function).__name__}")
    name = getattr(function, "__name__", type(function).__name__)
    try:
        parameters = tuple(inspect.signature(function).parameters.values())
    except ValueError:  # some built-in callables have none to show
        parameters = (inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),)
    if plain is None:
        plain = any(p.name == "completions" and str(p.annotation).endswith("[str]") for p in parameters)
    named = tuple(p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return FunctionReward(
        function,
        name,
        plain,
        required=tuple(p.name for p in named if p.default is p.empty),
        accepted=None if any(p.kind is p.VAR_KEYWORD for p in parameters) else tuple(p.name for p in named),
        extras=tuple(p.name for p in named if p.name in EXTRAS),
    )


@dataclass(frozen=True)
class FunctionReward:
    """A function of TRL's signature as a `Reward`. Made by `from_function`."""

    function: Callable[..., Any]
    name: str
    plain: bool
    required: tuple[str, ...]
    accepted: tuple[str, ...] | None  # None: it takes any
    extras: tuple[str, ...] = ()  # those of EXTRAS that it names

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        count = len(episodes)
        try:
            for episode in episodes:
                self.check(episode.problem)
        except CoveyError as error:
            return [Score(None, error=str(error))] * count
        log = Log(count)
        extras = {name: value for name, value in log.arguments().items() if name in self.extras}
        arguments = self.arguments(episodes) | extras
        result = attempt(self.name, lambda: _listed(self.function(**arguments), count))
        if not isinstance(result, Failure) and not isinstance(result, list):
            result = Failure(f"{self.name} returned {type(result).__name__}, not a list of scores", "type")
        if isinstance(result, list) and len(result) != count:
            found = len(result) if len(result) < count else f"more than {count}"
            result = Failure(f"{self.name} returned {found} scores for {count} completions", "length")
        if isinstance(result, Failure):
            return [result.score] * count
        return [replace(as_score(self.name, value), parts=log.parts(i)) for i, value in enumerate(result)]

    def check(self, problem: Problem) -> None:
        """Raise CoveyError when the function needs a column that the problem doesn't have."""
        known = ["prompts", "completions", "completion_ids", "answer", *problem.columns, *EXTRAS]
        for missing in (name for name in self.required if name not in known):
            close = difflib.get_close_matches(missing, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise CoveyError(
                f"reward {self.name} needs a column {missing!r} that problem {problem.id} doesn't have."
                f"{hint} There are: {', '.join(known[: -len(EXTRAS)])}"
            )

    def arguments(self, episodes: Sequence[Episode]) -> dict[str, list[Any]]:
        """The keyword arguments for these episodes: plain values, the function's own to change."""
        rows = [self._row(episode) for episode in episodes]
        names = dict.fromkeys(name for row in rows for name in row)
        wanted = names if self.accepted is None else [name for name in names if name in self.accepted]
        return {name: [row.get(name) for row in rows] for name in wanted}

    def _row(self, episode: Episode) -> dict[str, Any]:
        problem = episode.problem
        messages = [copy.deepcopy(dict(message)) for message in problem.messages]
        reply = {"role": "assistant", "content": episode.text}
        prompt_length = len(episode.turns[0].context_ids) if episode.turns else 0
        return {
            "answer": problem.answer,
            **copy.deepcopy(dict(problem.columns)),
            "prompts": messages[-1]["content"] if self.plain else messages,
            "completions": episode.text if self.plain else [reply],
            "completion_ids": list(episode.token_ids[prompt_length:]),
        }


class Log:
    """What a function logs by TRL's ``log_metric`` and ``log_extra`` while it scores ``count`` episodes."""

    def __init__(self, count: int) -> None:
        self._columns: dict[str, list[float | None]] = {}
        self._count = count

    def arguments(self) -> dict[str, Any]:
        return dict(zip(EXTRAS, (self.metric, self.extra, None, None), strict=True))

    def metric(self, name: str, value: Any) -> None:
        """One number for all of the episodes."""
        self._columns[str(name)] = [number(value)] * self._count

    def extra(self, column: str, values: Iterable[Any]) -> None:
        """One value for each; those that are no finite numbers are left out."""
        listed = [number(value) for value in itertools.islice(values, self._count)]
        self._columns[str(column)] = listed + [None] * (self._count - len(listed))

    def parts(self, index: int) -> dict[str, float | None]:
        """What was logged of one episode."""
        return {name: values[index] for name, values in self._columns.items() if values[index] is not None}


def number(value: Any) -> float | None:
    """A finite number as a float; None for anything else, text and truth included."""
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        return None
    try:
        found = float(value)
    except (
        TypeError,
        ValueError,
        OverflowError,
        RuntimeError,
    ):  # a tensor of several, an integer of thousands
        return None
    return found if math.isfinite(found) else None


def per_text(function: Callable[[str, str | None], Any]) -> PerText:
    """Make a reward of ``f(text, answer) -> float | None``: a reply and its gold answer, sync or async."""
    return PerText(function, getattr(function, "__name__", type(function).__name__))


@dataclass(frozen=True)
class PerText:
    """A function of one reply as a `Reward`. Made by `per_text`."""

    function: Callable[[str, str | None], Any]
    name: str

    def __call__(self, episodes: Sequence[Episode]) -> list[Score]:
        return [self._score(episode.text, episode.problem.answer) for episode in episodes]

    def _score(self, text: str, answer: str | None) -> Score:
        return as_score(self.name, attempt(self.name, lambda: awaited(self.function(text, answer))))


@dataclass(frozen=True)
class Failure:
    """Why a grader gave nothing that can be used; ``kind`` and ``trace`` as in `Fault`."""

    reason: str
    kind: str
    trace: str | None = None

    @property
    def score(self) -> Score:
        return Score(None, error=self.reason, fault=Fault(self.kind, self.trace))


def as_score(name: str, value: Any) -> Score:
    """One returned value as a score: a finite number, or None with the reason why it is none.

    A number is what converts by ``__float__``: bool, Fraction, NumPy and torch scalars, but no text.
    """
    if value is None:
        value = Failure(f"{name} returned None: not scored", "none")
    elif not isinstance(value, Failure) and not hasattr(value, "__float__"):
        value = Failure(f"{name} returned {type(value).__name__}, not a number", "type")
    elif not isinstance(value, Failure):
        value = attempt(name, lambda: float(value))
    if isinstance(value, Failure):
        return value.score
    return Score(value) if math.isfinite(value) else Failure(f"{name} returned {value}", "not finite").score


def attempt(name: str, call: Callable[[], Any]) -> Any:
    """What a grader's call gives, or its `Failure`."""
    try:
        return call()
    # Foreign code's failure becomes data. SystemExit and a cancelled coroutine are the grader's own doing;
    # Ctrl-C is the user's and passes.
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
        place = f" ({PurePath(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        message = str(error).strip().partition("\n")[0][:ERROR_CHARACTERS]
        kind = "memory" if isinstance(error, MemoryError) else "raised"
        theirs = _theirs(error.__traceback__)
        trace = "".join(traceback.format_exception(type(error), error, theirs))[-TRACE_CHARACTERS:]
        return Failure(f"{name} raised {type(error).__name__}: {message}{place}", kind, trace)


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the call of the grader on, without what led to it."""
    while trace and trace.tb_next and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _listed(result: object, count: int) -> object:
    """A returned series as a list, read one item past ``count`` since a generator may have no end."""
    result = awaited(result)
    if isinstance(result, str | bytes | Mapping | AbstractSet) or not isinstance(result, Iterable):
        return result
    return list(itertools.islice(result, count + 1))


def awaited(result: object) -> object:
    """The result itself, or what it comes to when it is awaitable."""
    if not inspect.isawaitable(result):
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_wait(result))
    with ThreadPoolExecutor(1) as thread:  # a notebook's loop is running already and can't be entered twice
        return thread.submit(asyncio.run, _wait(result)).result()


async def _wait(awaitable: Awaitable[object]) -> object:
    return await awaitable
