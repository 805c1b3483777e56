"""Which sandbox is taken, what is said about it, and that nothing runs where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from covey import sandbox
from covey.sandbox import backends, confinement, interpreter
from covey.sandbox.backends import CPYTHON, Backend
from covey.types import CoveyError


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch):
    """Makes the machine offer these and no others."""

    def only(*names: str) -> None:
        monkeypatch.setattr(backends, "missing", lambda name: None if name in names else f"no {name}")

    return only


@pytest.mark.parametrize(
    ("offered", "taken", "whole"),
    [
        (["monty", "bubblewrap", "landlock"], ("monty", "bubblewrap"), ("bubblewrap",)),
        (["monty", "landlock"], ("monty", "landlock"), ("landlock",)),
        (["bubblewrap", "landlock"], ("bubblewrap",), ("bubblewrap",)),
        (["landlock"], ("landlock",), ("landlock",)),
    ],
)
def test_the_order(
    offers, offered: list[str], taken: tuple[Backend, ...], whole: tuple[Backend, ...]
) -> None:
    offers(*offered)
    assert sandbox.chosen(None, False) == sandbox.chosen(None, True) == taken
    assert sandbox.chosen(None, False, whole=True) == whole


def test_where_there_is_none_nothing_runs(offers) -> None:
    offers()
    for attempt in (
        lambda: sandbox.run("print(1)"),
        lambda: sandbox.call("def f(): return 1", "f", [[]]),
        lambda: sandbox.check("def f(): return 1", "def check(c): pass", "f"),
        sandbox.describe,
    ):
        with pytest.raises(CoveyError, match=r"no sandbox .*bubblewrap: no bubblewrap.* unsafe_local"):
            attempt()
    with pytest.raises(CoveyError, match="unsafe_local"):
        sandbox.run("print(1)", backend="local")


def test_monty_alone_runs_no_whole_program(offers) -> None:
    offers("monty")
    assert sandbox.chosen(None, False) == ("monty",)
    with pytest.raises(CoveyError, match="no sandbox"):
        sandbox.run("print(1)")


def test_without_walls_only_when_the_user_says_so(offers) -> None:
    offers()
    assert sandbox.run("print(1)", unsafe_local=True).backend == "local"
    assert sandbox.call("def f(): return 1", "f", [[]], unsafe_local=True) == [1]
    assert "WITHOUT WALLS" in sandbox.describe(unsafe_local=True)
    offers("landlock")
    assert sandbox.chosen(None, True, whole=True) == ("landlock",)
    assert sandbox.chosen("local", True, whole=True) == ("local",)


def test_one_that_was_asked_for_and_isnt_there(offers) -> None:
    offers("landlock")
    with pytest.raises(CoveyError, match="the sandbox bubblewrap doesn't work here: no bubblewrap"):
        sandbox.run("print(1)", backend="bubblewrap")
    with pytest.raises(CoveyError, match="Did you mean 'bubblewrap'"):
        sandbox.run("print(1)", backend="bubblwrap")
    with pytest.raises(CoveyError, match="no sandbox 'monty' for this"):
        sandbox.run("print(1)", backend="monty")


def test_what_is_said(offers) -> None:
    offers("monty", "landlock")
    assert sandbox.describe().startswith("untrusted code runs in pydantic-monty ")
    assert sandbox.describe().endswith("under Landlock and seccomp")
    assert sandbox.describe(whole=True).startswith("untrusted code runs in CPython ")


def test_bubblewrap_that_isnt_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "not installed" in str(confinement.bubblewrap())


def test_bubblewrap_that_may_not_make_namespaces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container that forbids them: the reason is bubblewrap's own."""
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "setting up uid map: Permission denied" in str(backends.confined.__wrapped__("bubblewrap"))


def test_walls_that_let_something_out_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "landlock", lambda: confinement.Confinement("landlock"))
    assert "lets programs out" in str(backends.confined.__wrapped__("landlock"))


@pytest.mark.skipif(sys.platform != "linux", reason="what an interpreter reads is told by Linux's /proc")
def test_installed_packages_are_out_of_reach() -> None:
    roots, hidden = interpreter.readable()
    standard = os.path.realpath(os.path.dirname(os.__file__))
    assert any(standard == root or standard.startswith(f"{root}/") for root in roots)
    if sys.prefix != sys.base_prefix:
        assert not [root for root in roots if root.startswith(sys.prefix)]
    allowed = interpreter.rules()
    for packages in hidden:
        assert packages not in allowed
        assert not allowed.get(os.path.dirname(packages), True)
    for path in allowed:
        assert not path.endswith(("site-packages", "dist-packages"))


def test_every_backend_is_known() -> None:
    assert set(CPYTHON) < {"monty", "bubblewrap", "landlock", "local"}
