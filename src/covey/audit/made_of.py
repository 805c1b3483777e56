"""What two manifests say differently: recipe, data, code, packages, machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SECTIONS = {
    "recipe": ("recipe", "algorithm"),
    "data": ("data",),
    "model": ("model",),
    "code": ("code",),
    "packages": ("environment.packages", "environment.python", "environment.implementation"),
    "hardware": (
        "environment.cpu",
        "environment.gpu",
        "environment.threads",
        "environment.kernels",
        "environment.memory_bytes",
        "environment.platform",
    ),
}
"""What `covey compare` shows, and the keys of the manifest that it stands for."""

DECISIVE = (
    "environment.packages.torch",
    "environment.packages.transformers",
    "environment.packages.tokenizers",
    "environment.packages.numpy",
    "environment.cpu.model",
    "environment.cpu.architecture",
    "environment.cpu.flags",
    "environment.gpu",
    "environment.threads",
    "environment.kernels",
    "model.dtype",
    "model.device",
)
"""Where all of these agree, equal code must give equal bits."""


@dataclass(frozen=True, slots=True)
class Unequal:
    """A key of two manifests with its two values; one that a manifest lacks is None there."""

    key: str
    one: Any
    other: Any

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.one)} → {_shown(self.other)}"


def unequal(one: Mapping[str, Any], other: Mapping[str, Any], keys: Iterable[str]) -> list[Unequal]:
    """The leaves at and below the dotted ``keys`` in which two manifests differ."""
    found: list[Unequal] = []
    for key in keys:
        flat, flat_other = dict(leaves(at_key(one, key), key)), dict(leaves(at_key(other, key), key))
        for leaf in dict.fromkeys([*flat, *flat_other]):
            if flat.get(leaf) != flat_other.get(leaf):
                found.append(Unequal(leaf, flat.get(leaf), flat_other.get(leaf)))
    return found


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value with their dotted names; a list is one leaf."""
    if isinstance(value, Mapping):
        for key, inside in value.items():
            yield from leaves(inside, f"{name}.{key}")
    else:
        yield name, value


def at_key(manifest: Mapping[str, Any], key: str) -> Any:
    """What stands under a dotted key, or None."""
    value: Any = manifest
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _shown(value: Any) -> str:
    """A value on one line; a patch by its size alone."""
    if isinstance(value, str) and "\n" in value:
        return f"<{value.count(chr(10))} lines>"
    return "–" if value is None else repr(value) if isinstance(value, str) else str(value)
