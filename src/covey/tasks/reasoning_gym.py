"""Problems made by reasoning-gym: about a hundred kinds, as many of each as wanted (arXiv:2505.24760)."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from covey.protocols import Split
from covey.rewards.gym import dataset_of, library, packed, silent
from covey.tasks.errors import unknown
from covey.types import CoveyError, Message, Problem

FORMATS: Mapping[str, str] = {
    "tags": "Give your final answer as <answer>…</answer>, once, with nothing but the answer inside.",
    "line": "End with a line that is Answer: followed by your final answer.",
    "reply": "Reply with the final answer and nothing else.",
}
"""Where the answer is to stand, and what the policy is told of it unless there is another ``instruction``."""

HELDOUT_SEED = 1 << 31
"""The library makes item i from seed + i; held-out items come from seeds this much higher."""


@dataclass(frozen=True)
class Kind:
    """One of the library's tasks: ``level`` is its curriculum's, for all attributes, or the lowest and the
    highest of several; ``settings`` are its own parameters, which a level's give way to."""

    name: str
    weight: float = 1.0
    level: int | Sequence[int] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def levels(self) -> list[Kind]:
        """The same at each of its levels, the lowest first."""
        if not isinstance(self.level, list | tuple):
            return [self]
        match self.level:
            case [int(lowest), int(highest)] if lowest < highest:
                return [replace(self, level=level) for level in range(lowest, highest + 1)]
        raise CoveyError(
            f"reasoning_gym: level of {self.name} is a number, or the lowest and the highest: [0, 3], "
            f"not {self.level!r}"
        )


class ReasoningGym:
    """Problems of one of the library's tasks, or of several in proportion to their weights.

    ``tasks`` is a name, or a list of names and of tables ``{name, weight, level, settings}``. Each, and of
    several levels each, gives ``problems`` training items and ``heldout`` others, made from ``seed`` (the
    run's seed doesn't enter, so that runs can be compared). A question that is held out is not trained on,
    and none comes twice. The message is the question and, after a blank line, the ``instruction``.

    A problem's answer is the reference answer if the library gives it full marks. Where it has none that it
    would, as in graph_color, the answer is None and `notes` says so: the reward needs none.

    Raises:
        CoveyError: the package isn't installed, there is no such task, level or setting, or one of the
            splits would be left empty.
    """

    def __init__(
        self,
        tasks: str | Sequence[Any],
        problems: int = 500,
        heldout: int = 100,
        seed: int = 0,
        answer_in: str = "tags",
        instruction: str | None = None,
        system: str | None = None,
    ) -> None:
        if answer_in not in FORMATS:
            raise unknown("reasoning_gym", "place for the answer", answer_in, FORMATS)
        for name, value, least in (("problems", problems, 1), ("heldout", heldout, 0), ("seed", seed, 0)):
            if type(value) is not int or not least <= value < HELDOUT_SEED:
                raise CoveyError(f"reasoning_gym: {name} must be a whole number from {least}, not {value!r}")
        kinds = _kinds(tasks)
        makers = [[_Maker(level, answer_in, instruction, system) for level in kind.levels] for kind in kinds]
        known: set[str] = set()
        held = [_of_levels(levels, seed + HELDOUT_SEED, heldout, known) for levels in makers]
        train = [_of_levels(levels, seed, problems, known) for levels in makers]
        for kind, part in zip(kinds, train, strict=True):
            if not part:
                raise CoveyError(
                    f"reasoning_gym: every question of {kind.name} is held out too, or came before: ask for "
                    "fewer held-out problems, more problems, or other settings"
                )
        self.notes = tuple(note for levels in makers for maker in levels for note in maker.notes())
        self._shares = tuple((len(part), kind.weight) for part, kind in zip(train, kinds, strict=True))
        self._problems: dict[Split, tuple[Problem, ...]] = {
            "train": tuple(problem for part in train for problem in part),
            "heldout": tuple(problem for part in held for problem in part),
        }

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split, one of the library's tasks after the other, from the lowest level up."""
        return self._problems[split]

    def shares(self) -> Sequence[tuple[int, float]]:
        """For each of the library's tasks how many training problems it has, and its weight."""
        return self._shares


def _of_levels(makers: Sequence[_Maker], seed: int, number: int, known: set[str]) -> list[Problem]:
    """``number`` items of each level, each from a seed of its own, whose questions aren't ``known`` yet; from
    now on they are."""
    found: list[Problem] = []
    for place, maker in enumerate(makers):
        for problem in maker.problems(seed + place * number, number):
            if problem.id not in known:
                known.add(problem.id)
                found.append(problem)
    return found


class _Maker:
    """Problems of one kind, at one level."""

    def __init__(self, kind: Kind, answer_in: str, instruction: str | None, system: str | None) -> None:
        self.kind, self.answer_in = kind, answer_in
        self.instruction = FORMATS[answer_in] if instruction is None else instruction
        self.first: tuple[Message, ...] = ({"role": "system", "content": system},) if system else ()
        self.settings = _settings(kind)
        self.without = 0

    def problems(self, seed: int, number: int) -> Iterator[Problem]:
        """Items 0 to ``number - 1``, repeated questions among them."""
        if number:
            dataset = dataset_of(self.kind.name, {**self.settings, "seed": seed, "size": number})
            yield from self._made(dataset, number)

    def notes(self) -> Iterator[str]:
        """What whoever starts a run should know."""
        if self.without:
            yield (
                f"reasoning_gym: {self.without} reference answers of {self.kind.name} don't get full marks "
                "from the library's own score_answer, so those problems have no gold answer; replies are "
                "scored all the same"
            )

    def _made(self, dataset: Any, number: int) -> Iterator[Problem]:
        where = f"reasoning_gym: {self.kind.name}"
        settings = packed(self.settings, where)
        for index in range(number):
            try:
                entry = _item(dataset, index)
            except Exception as error:  # foreign code: some settings leave it nothing to make
                raise CoveyError(f"{where}: its level or settings make no problem: {error}") from error
            gold = entry["answer"] if isinstance(entry["answer"], str) else None
            if gold is None or dataset.score_answer(gold, entry) != 1.0:
                gold = None
                self.without += 1
            question = entry["question"]
            content = f"{question}\n\n{self.instruction}" if self.instruction else question
            digest = hashlib.sha256(f"{self.kind.name}\n{question}".encode()).hexdigest()[:16]
            columns = {
                "gym_task": self.kind.name,
                "gym_settings": settings,
                "gym_entry": packed(entry, f"{where}, item {index}"),
                "answer_in": self.answer_in,
            }
            messages = (*self.first, {"role": "user", "content": content})
            yield Problem(f"{self.kind.name}/{digest}", messages, gold, columns)


def _item(dataset: Any, index: int) -> dict[str, Any]:
    """An item that depends on nothing but its seed, and leaves nothing behind: list_functions draws from
    Python's own generator (0.1.25), pool_matrix seeds NumPy's."""
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(dataset.seed + index)
    try:
        with silent():
            return dict(dataset[index])
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


def _settings(kind: Kind) -> dict[str, Any]:
    """The settings that a level comes to, laid over by its own."""
    for name in ("seed", "size"):
        if name in kind.settings:
            raise CoveyError(
                f"reasoning_gym: {name} of {kind.name} isn't a setting; give the task's seed, problems"
            )
    own = {key: tuple(v) if isinstance(v, list) else v for key, v in kind.settings.items()}
    if kind.level is None:
        return own
    gym = library()
    if not gym.has_curriculum(kind.name):
        raise CoveyError(f"reasoning_gym: {kind.name} has no levels")
    curriculum = gym.create_curriculum(kind.name)
    most = max((len(attribute.levels) for attribute in curriculum.attributes.values()), default=0)
    if type(kind.level) is not int or not 0 <= kind.level < most:
        raise CoveyError(f"reasoning_gym: {kind.name} has levels 0 to {most - 1}, not {kind.level!r}")
    curriculum.set_global_level(kind.level)
    config = curriculum.generate_configuration()
    plain = type(config)()
    names = [one.name for one in dataclasses.fields(config) if one.name not in ("seed", "size")]
    levels = {name: getattr(config, name) for name in names if getattr(config, name) != getattr(plain, name)}
    return levels | own


def _kinds(tasks: str | Sequence[Any]) -> list[Kind]:
    listed = [tasks] if isinstance(tasks, str | Mapping) else tasks
    if not isinstance(listed, Sequence) or not listed:
        raise CoveyError("reasoning_gym: tasks is a name such as chain_sum, or a list of them")
    return [_kind(one) for one in listed]


def _kind(given: Any) -> Kind:
    values = {"name": given} if isinstance(given, str) else given
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise CoveyError(
            f'reasoning_gym: one of the tasks has no name; it is written {{ name = "chain_sum" }}: {given!r}'
        )
    fields = [one.name for one in dataclasses.fields(Kind)]
    for key in values:
        if key not in fields:
            raise unknown(f"reasoning_gym: {values['name']}", "key", key, fields)
    kind = Kind(**dict[str, Any](values))
    if kind.name not in library().DATASETS:
        raise unknown("reasoning_gym", "task", kind.name, sorted(library().DATASETS))
    if isinstance(kind.weight, bool) or not isinstance(kind.weight, int | float) or not 0 < kind.weight < 1e9:
        raise CoveyError(
            f"reasoning_gym: the weight of {kind.name} must be a number above 0, not {kind.weight!r}"
        )
    if not isinstance(kind.settings, Mapping):
        raise CoveyError(f"reasoning_gym: the settings of {kind.name} must be a table, not {kind.settings!r}")
    return kind
