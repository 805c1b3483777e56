"""The object that a name means: ``package.module:object`` or ``file.py:object``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from covey.types import CoveyError


def named(kind: str, name: str) -> Any:
    """Import what ``name`` stands in, and return it. ``kind`` is what it is to be, for messages.

    Raises:
        CoveyError: there is no such file, module or object, or importing it raised.
    """
    where, _, attribute = name.rpartition(":")
    module = _from_file(kind, Path(where)) if where.endswith(".py") else _from_package(kind, where)
    if not hasattr(module, attribute):
        close = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise CoveyError(f"[{kind}] {where} has no {attribute!r}{hint}")
    return getattr(module, attribute)


def _from_file(kind: str, path: Path) -> Any:
    if not path.is_file():
        raise CoveyError(f"[{kind}] there is no file {path}")
    name = f"covey_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _foreign(kind, str(path)):
        spec.loader.exec_module(module)
    return module


def _from_package(kind: str, name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` would: a user's module lies where he stands
    with _foreign(kind, name):
        return importlib.import_module(name)


@contextmanager
def _foreign(kind: str, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a user's module is anything: what it raises is told by its place
        last = traceback.extract_tb(error.__traceback__)[-1]
        says_where = isinstance(error, SyntaxError | ModuleNotFoundError)
        place = "" if says_where else f" ({Path(last.filename).name}, line {last.lineno})"
        raise CoveyError(f"[{kind}] can't import {name!r}: {type(error).__name__}: {error}{place}") from error
