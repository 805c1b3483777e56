"""What a recorded recipe means here: its task, reward, algorithm and tokenizer, as far as they can be had."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from covey.algo import Algorithm
from covey.audit.made_of import at_key
from covey.audit.recorded import Record
from covey.build import assemble
from covey.build.components import build_reward, build_task, reaches_out
from covey.build.conversation import chat_of
from covey.config import Component, Recipe
from covey.models import Policy
from covey.models.chat import ChatFormat
from covey.models.loading import locate, sketch
from covey.protocols import Reward, Task
from covey.types import CoveyError, Problem

Part = TypeVar("Part")


class Meaning:
    """The parts of one recipe. One that can't be had is None, and ``missing`` says why, by name.

    A record may name code of its author's own as task, reward or choice of the algorithm. It is run only when
    ``own_code`` says so: a stranger's record must be safe to verify.
    """

    def __init__(self, recipe: Recipe, record: Record, *, own_code: bool = False) -> None:
        self.recipe = recipe
        self.missing: dict[str, str] = {}
        if not own_code and (reason := reaches_out(recipe.algorithm.changes)) is not None:
            raise CoveyError(f"nothing can be recomputed without the algorithm: {reason}; --own-code runs it")
        try:
            self.algorithm: Algorithm = assemble.algorithm_of(recipe)
        except CoveyError as error:
            raise CoveyError(f"{record.layout.manifest}: {error}") from error
        self.task: Task | None = self._part("task", lambda: _own(recipe.task, own_code, build_task))
        self.reward: Reward | None = self._part("reward", lambda: _own(recipe.reward, own_code, build_reward))
        self.words: Policy | None = self._part("tokenizer", lambda: _words(recipe, record))
        self.fused = at_key(record.manifest, "environment.kernels") is not None
        """Whether the run was computed on the CPU's kernels, which decides how much fits a micro-batch."""
        self.chat: ChatFormat | None = self._part("tokenizer", lambda: _chat(self.task, self.words))
        self.end_ids = _end_ids(self.words, record.folder / "model")
        self.train: Sequence[Problem] = self.task.problems("train") if self.task else ()
        heldout = self.task.problems("heldout") if self.task else ()
        self.heldout = assemble.chosen(heldout, recipe.eval.problems)

    @property
    def parts(self) -> assemble.Parts | None:
        """All of them as `assemble` hands them around, if they are all here."""
        if self.task is None or self.reward is None:
            return None
        return assemble.Parts(self.recipe, self.algorithm, self.task, self.reward, self.train, self.heldout)

    def _part(self, name: str, make: Callable[[], Part]) -> Part | None:
        try:
            return make()
        except CoveyError as error:
            self.missing[name] = f"{name}: {error}"
            return None


class Meanings:
    """The recipe that each step went by, and what it means: it changes when a resumed run changes it."""

    def __init__(self, record: Record, *, own_code: bool = False) -> None:
        self.record = record
        self._made = [(start, Meaning(recipe, record, own_code=own_code)) for start, recipe in record.recipes]

    def at(self, step: int) -> Meaning:
        """What the recipe of a step means."""
        return next(meaning for start, meaning in reversed(self._made) if start <= step)

    @property
    def first(self) -> Meaning:
        """What the manifest's recipe means."""
        return self._made[0][1]

    def close(self) -> None:
        """End the processes that grade."""
        for _, meaning in self._made:
            if callable(close := getattr(meaning.reward, "close", None)):
                close()

    def without(self, *names: str) -> str | None:
        """Why something that needs these parts can't be checked, or None when it can."""
        missing = (meaning.missing.get(name) for name in names for _, meaning in self._made)
        return next((reason for reason in missing if reason), None)


def there(part: Part | None) -> Part:
    """A part that `Meanings.without` has said is there."""
    assert part is not None
    return part


def _own(component: Component, allowed: bool, build: Callable[[Component], Part]) -> Part:
    if not allowed and (reason := reaches_out(component)) is not None:
        raise CoveyError(f"{reason}; --own-code runs it")
    return build(component)


def _words(recipe: Recipe, record: Record) -> Policy:
    """The model's shape, tokenizer and chat template, without weights: from the folder the run saved, or
    from where the recipe found them, unless that takes a download."""
    folder, model = record.folder / "model", recipe.model
    dtype = record.manifest.get("model", {}).get("dtype")
    name: str | dict[str, Any] = str(folder) if folder.is_dir() else model.name or model.config or {}
    if isinstance(name, str) and not Path(locate(name)[0]).exists():
        raise CoveyError(f"{folder} isn't there, and {name!r} would have to be downloaded")
    try:
        return sketch(name, dtype if dtype in ("float32", "bfloat16") else "float32", "cpu")
    except CoveyError:
        raise
    # transformers checks a config in its own ways: whatever it raises, this record has no such model
    except Exception as error:
        raise CoveyError(f"the model can't be made: {type(error).__name__}: {error}") from error


def _chat(task: Task | None, words: Policy | None) -> ChatFormat | None:
    if words is None or task is None:
        return words and words.chat
    return chat_of(task, words)


def _end_ids(words: Policy | None, folder: Path) -> frozenset[int]:
    """What ends a reply; a saved model's generation config may add to what its tokenizer says."""
    if words is None:
        return frozenset()
    path = folder / "generation_config.json"
    more = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    return words.end_ids | frozenset([more] if isinstance(more, int) else more or ())
