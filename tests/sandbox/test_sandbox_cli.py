"""``covey sandbox FILE.py``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from covey.cli import app
from covey.sandbox.backends import missing
from covey.types import CoveyError


@pytest.fixture(autouse=True)
def _some_sandbox() -> None:
    if missing("bubblewrap") and missing("landlock"):
        pytest.skip(f"bubblewrap: {missing('bubblewrap')}; landlock: {missing('landlock')}")


def covey(*arguments: object) -> object:
    return app(["sandbox", *map(str, arguments)], result_action="return_value")


def test_it_prints_what_the_file_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, given = tmp_path / "file.py", tmp_path / "input.txt"
    file.write_text("print(input() * 2)")
    given.write_text("ab\n")
    assert covey(file, "--stdin", given, "--seconds", 5) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "ok"
    assert shown["stdout"] == "abab\n"
    assert shown["backend"] in ("bubblewrap", "landlock")
    assert shown["limits"] == {"seconds": 5.0, "memory_mb": 512, "output_bytes": 1 << 20}


def test_a_file_that_fails_gives_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file.py"
    file.write_text(f"open({str(file)!r})")
    assert covey(file) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "failed"
    assert shown["stderr_tail"].splitlines()[-1].startswith(("FileNotFoundError", "PermissionError"))


def test_a_file_that_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(CoveyError, match=r"none.py: No such file"):
        covey(tmp_path / "none.py")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9")
    with pytest.raises(CoveyError, match=r"latin.py: not a text in UTF-8"):
        covey(tmp_path / "latin.py")
