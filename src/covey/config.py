"""The recipe: what a run is made of, frozen. TOML by hand, dotted overrides, nothing unknown accepted."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from covey.types import MOST_KEPT, CoveyError, Sampling


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Component(BaseModel):
    """A part by name, with its own parameters: ``"number"`` or ``{name = "arithmetic", low = 10}``.

    The parameters are checked against the part's signature when it is built. The name of a task, a reward
    or a choice of the algorithm may also be ``package.module:function`` or ``file.py:function``.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def component_of(value: Any) -> Component:
    """A part as a recipe may write it: a name, or a table with its parameters. Raises CoveyError."""
    try:
        return Component.model_validate(_named(value))
    except ValidationError as error:
        raise CoveyError(f"a part needs a name, and {value!r} has none") from error


Named = Annotated[Component, BeforeValidator(_named)]


class Model(_Section):
    name: str | None = None
    """A hub id, a model folder, a .gguf file, or a carried model such as ``smollm2-135m``."""
    config: dict[str, Any] | None = None
    """Instead of a name: a tiny model made from scratch (family, hidden_size, layers, heads, …)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What it computes in; ``auto`` is bf16 where the hardware is fast at it. Weights are fp32."""
    device: str = "auto"

    @model_validator(mode="after")
    def _one(self) -> Model:
        if (self.name is None) == (self.config is None):
            raise ValueError("give either a name or a config")
        return self


def _several(value: Any) -> Any:
    return [_named(one) for one in (value if isinstance(value, list | tuple) else [value])]


def _later(default: Any, **checks: Any) -> Any:
    """A field that recipes of earlier runs don't have. It is written only where it is not at its default,
    so that what it leaves as it was keeps its identity: a run's hash chain begins with its recipe."""
    return Field(default, exclude_if=lambda value: value == default, **checks)


class Algorithm(_Section):
    """A preset, and the choices that take the place of its own; see docs/algorithms.md. ``"none"`` takes
    away what a preset needn't have: ``kl``, ``selection``, ``correction``, ``entropy`` and controls."""

    preset: str = "modern"
    advantage: Named | None = None
    ratio: Named | None = None
    surrogate: Named | None = None
    kl: Named | None = None
    aggregation: Named | None = None
    kl_in: Literal["loss", "reward"] | None = _later(None)
    """Whether the KL is added to the loss, or taken off the reward."""
    truncated: Literal["scored", "masked"] | None = _later(None)
    """Whether answers that were cut off are learned from, or only counted in their group's baseline."""
    selection: Named | None = _later(None)
    entropy: Named | None = _later(None)
    """A bonus for entropy, off each token's loss."""
    kl_control: Named | None = _later(None)
    entropy_control: Named | None = _later(None)
    """What moves the coefficient of ``kl`` and of ``entropy`` from step to step."""
    correction: Annotated[list[Component], BeforeValidator(_several)] | None = _later(None)
    """One, or several that multiply."""

    @property
    def changes(self) -> dict[str, Any]:
        """The preset's choices that this recipe replaces."""
        may_be_none = ("kl", "selection", "entropy", "kl_control", "entropy_control")
        names = ("advantage", "ratio", "surrogate", "aggregation", *may_be_none)
        given: dict[str, Any] = {n: _written(c) for n in names if (c := getattr(self, n)) is not None}
        for name in may_be_none:
            if given.get(name) == {"name": "none"}:
                given[name] = None
        if self.correction is not None:
            written = [_written(c) for c in self.correction]
            given["correction"] = [] if written == [{"name": "none"}] else written
        plain = {name: getattr(self, name) for name in ("kl_in", "truncated")}
        return given | {name: value for name, value in plain.items() if value is not None}


def _written(component: Component) -> dict[str, Any]:
    return {"name": component.name, **component.params}


class Rollout(_Section):
    problems_per_step: int = Field(default=16, ge=1)
    group_size: int = Field(default=8, ge=2)
    """Answers sampled to each problem; a group of one has nothing to compare with."""
    max_new_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    top_k: int = _later(0, ge=0, le=MOST_KEPT)
    """Likeliest ids that a token is drawn from; 0 is all. What is kept is recorded with each token, and
    the learner's log-probs are over the same ids; evaluations draw from all. See docs/algorithms.md."""
    top_p: float = _later(1.0, gt=0, le=1)
    """Of those, the fewest whose share of them reaches this; it needs top_k."""
    min_p: float = _later(0.0, ge=0, lt=1)
    """Of those, the ones at least so many times as likely as the likeliest; it needs top_k."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    refills: int = Field(default=1, ge=0)
    """Rounds of fresh problems that may replace groups without a signal."""
    max_turns: int = _later(8, ge=1)
    """Replies in a conversation at most, where the task has environments."""
    max_episode_tokens: int | None = _later(None, ge=1)
    """Of a whole conversation, prompt included; the model's context when absent."""
    engine: Named = Component(name="local")
    draw: Named = _later(Component(name="uniform"))
    """Which problems come next: uniform, retire, curriculum or climb; see docs/tasks.md."""

    @model_validator(mode="after")
    def _truncates(self) -> Rollout:
        _ = self.sampling
        return self

    @property
    def sampling(self) -> Sampling:
        """How a rollout's tokens are drawn."""
        return Sampling(self.max_new_tokens, self.temperature, self.top_k, self.top_p, self.min_p)


Beta = Annotated[float, Field(ge=0, lt=1)]


class Train(_Section):
    learning_rate: float = Field(default=1e-6, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 is no limit."""
    memory_gb: float = Field(default=1.0, gt=0)
    """What activations of one micro-batch may take, in GiB; the micro-batch follows from it."""
    epochs: int = _later(1, ge=1)
    """How often each rollout is gone through."""
    reference_every: int = _later(0, ge=0)
    """Steps after which the reference becomes a copy of the policy, again and again; 0 is never."""
    mini_batches: int = _later(1, ge=1)
    """Optimizer steps in one epoch over a rollout, each on whole groups; learning rate and ``steps``
    go by rollouts."""


class Eval(_Section):
    problems: int = Field(default=128, ge=1)
    samples: int = Field(default=4, ge=1)
    """Answers to each held-out problem at ``rollout.temperature``, untruncated, beside the greedy one."""
    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 is before and after only."""


class Checkpoint(_Section):
    every: int = Field(default=20, ge=0)
    """Steps between checkpoints; 0 is only at the end and when the run is interrupted."""
    keep: int = Field(default=2, ge=1)
    """How many to keep, the newest."""


def _level(value: Any) -> Any:
    return {"level": value} if isinstance(value, str) else value


class Sentinel(BaseModel):
    """``"warn"``, or ``{level = "warn", floor = 0.1}``. The further keys are the sentinel's thresholds,
    checked when it is posted; without a level it has its own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    level: Literal["stop", "warn", "off"] | None = None


def part_label(part: Mapping[str, Any]) -> str:
    """What a part of a mixture is called: its label, or its task's name."""
    named = _named(part.get("task"))
    return str(part.get("label", named.get("name") if isinstance(named, Mapping) else named))


def part_labels(task: Component) -> tuple[str, ...]:
    """What the parts of a mixture are called, in order; nothing for any other task."""
    parts = task.params.get("parts") if task.name == "mixture" else None
    return tuple(part_label(part) for part in parts) if isinstance(parts, list | tuple) else ()


def _reward_of_parts(values: Any) -> Any:
    """Of a recipe whose task is a mixture: the rewards of its parts are its reward."""
    task = values.get("task") if isinstance(values, Mapping) else None
    parts = task.get("parts") if isinstance(task, Mapping) and task.get("name") == "mixture" else None
    if not isinstance(parts, list | tuple) or not all(isinstance(part, Mapping) for part in parts):
        return values
    named = [
        {"part": part_label(part), **_written(component_of(part.get("reward", "number")))} for part in parts
    ]
    rewards = {"name": "by_part", "parts": named}
    given = values.get("reward")
    if given is not None and given != rewards and any("reward" in part for part in parts):
        raise ValueError("a mixture's rewards stand in its parts: leave [reward] out")
    return values if given is not None else {**values, "reward": rewards}


class Recipe(_Section):
    """A whole run. See ``recipes/`` for examples; `load` reads one."""

    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=100, ge=1)
    threads: int | None = Field(default=None, ge=1)
    """CPU threads for tensors; all cores when absent. Part of what makes a run repeatable."""
    model: Model
    task: Named
    reward: Named = Component(name="number")
    algorithm: Algorithm = Algorithm()
    rollout: Rollout = Rollout()
    train: Train = Train()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()
    sentinels: dict[str, Annotated[Sentinel, BeforeValidator(_level)]] = {}
    """What watches the run, by name, where it is to differ from its defaults; see docs/sentinels."""

    @model_validator(mode="before")
    @classmethod
    def _mixed(cls, values: Any) -> Any:
        return _reward_of_parts(values)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and lay overrides (``--a.b value`` or ``--a.b=value``) over it.

    Raises CoveyError that names the file, the key, and the key probably meant.
    """
    return parse(read(path), overrides, where=str(path))


def read(path: str | Path) -> dict[str, Any]:
    """The plain values of a recipe file. Raises CoveyError when it isn't there or isn't TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CoveyError(f"can't read the recipe {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CoveyError(f"the recipe {path} isn't valid TOML: {error}") from error


def parse(values: Mapping[str, Any], overrides: Sequence[str] = (), where: str = "the recipe") -> Recipe:
    """A recipe from plain values; same checks as `load`."""
    merged = _copy(values)
    for key, value in _pairs(overrides):
        _put(merged, key, value)
        if key == ["model", "name"]:  # another model than the recipe's own, however that one is said
            merged["model"].pop("config", None)
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise CoveyError(_explain(error, where)) from error


def _pairs(overrides: Sequence[str]) -> list[tuple[list[str], Any]]:
    pairs, rest = [], list(overrides)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--") or len(flag) < 3:
            raise CoveyError(
                f"don't know what to do with {flag!r}; an override is written --section.key value"
            )
        name, given, value = flag[2:].partition("=")
        if not given:
            if not rest or rest[0].startswith("--"):
                raise CoveyError(f"the override --{name} has no value; write --{name} VALUE")
            value = rest.pop(0)
        pairs.append(([part.replace("-", "_") for part in name.split(".")], _value(value)))
    return pairs


def _value(text: str) -> Any:
    """As TOML reads it; what TOML can't read is a string."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], key: list[str], value: Any) -> None:
    at = values
    for part in key[:-1]:
        inside: Any = at.get(part)
        if isinstance(inside, str):  # `task = "arithmetic"` and `--task.low 1`
            inside = {"level" if key[0] == "sentinels" else "name": inside}
        if not isinstance(inside, dict):
            inside = {}
        at[part] = inside
        at = inside
    at[key[-1]] = value


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _explain(error: ValidationError, where: str) -> str:
    """pydantic's findings, one line each, with the key that was probably meant."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _fields(item["loc"][:-1])
            close = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
            lines.append(f"unknown key {key!r}; {hint}")
        elif item["type"] == "missing":
            lines.append(f"{key!r} is missing")
        else:
            message = item["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(item["input"], dict) else f", not {item['input']!r}"
            place = f"{key!r}: " if key else ""
            lines.append(f"{place}{message[0].lower() + message[1:]}{shown}{_about(item['loc'])}")
    return f"{where}: " + "; ".join(lines)


def _about(location: Sequence[str | int]) -> str:
    """What the recipe says of a key, to go behind what is wrong with its value."""
    model: Any = Recipe
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(str(part))
        model = field.annotation if field else None
    field = getattr(model, "model_fields", {}).get(str(location[-1])) if location else None
    if field is None or not field.description:
        return ""
    return f" ({' '.join(field.description.split()).rstrip('.')})"


def _fields(location: Sequence[str | int]) -> list[str]:
    model: Any = Recipe
    for part in location:
        field = getattr(model, "model_fields", {}).get(str(part))
        model = field.annotation if field else None
    return list(getattr(model, "model_fields", {}))
