"""What commands share: overrides of a recipe."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from covey.config import Recipe, load

Overrides = Annotated[str, Parameter(allow_leading_hyphen=True, help="Recipe keys, as --section.key VALUE.")]


def recipe_of(path: str, overrides: tuple[str, ...], **given: int | None) -> Recipe:
    """The recipe with overrides laid over it; ``given`` are top-level keys with flags of their own."""
    flags = [part for key, value in given.items() if value is not None for part in (f"--{key}", str(value))]
    return load(path, [*overrides, *flags])
