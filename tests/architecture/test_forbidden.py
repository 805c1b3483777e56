"""What no line of the source may do, and no file of the repository may say."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from walls import ROOT

FORBIDDEN = {
    r"\b(?:pickle|cloudpickle|dill|marshal|shelve)\b": "loading it runs code: use safetensors or JSON",
    r"allow_pickle\W+True": "loading it runs code: use safetensors or JSON",
    r"\btorch\.load\(": "weights travel as safetensors",
    r"weights_only\W+False": "loading it runs code: use safetensors",
    r"trust_remote_code\W+True": "a model's folder is data, never code",
    r"(?:(?<![\w.])|\bbuiltins\.)(?:eval|exec)\(": "text is never run",
    r"shell\W+True": "give the program its arguments as a list",
    r"\bos\.(?:system|popen)\(": "give the program its arguments as a list",
    r"0\.0\.0\.0": "what listens, listens on loopback",
}
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:home|root|Users)/")


def findings(source: str) -> list[str]:
    """What is forbidden in a Python source; comments and docstrings may speak of it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                node.value = ast.Constant(None)
    code = ast.unparse(tree)
    return [
        f"{hit.group()}: {why}" for pattern, why in FORBIDDEN.items() for hit in re.finditer(pattern, code)
    ]


def repository_files() -> list[Path]:
    """The files git knows or would add; outside a checkout, those of the source distribution."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    return [
        path
        for path in ROOT.rglob("*")
        if path.is_file() and not path.relative_to(ROOT).parts[0].startswith(".")
    ]


def test_the_source_does_nothing_forbidden() -> None:
    files = sorted((ROOT / "src").rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)}: {what}" for path in files for what in findings(path.read_text("utf-8"))
    ]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "load(path, weights_only = False)",
        "options = {'trust_remote_code': True}",
        "f(trust_remote_code=True)",
        "x = eval (text)",
        "builtins.exec(text)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "serve('0.0.0.0')",
    ],
)
def test_a_forbidden_line_is_found(source: str) -> None:
    assert len(findings(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    '''Never pickle.'''\n    # nor eval(text)\n    model.eval()\n",
        "torch.inference_mode(); retrieval(text); pattern.exec_(x)",
        "np.load(path, allow_pickle=False)\nfrom_pretrained(path, trust_remote_code=False)",
    ],
)
def test_harmless_code_passes(source: str) -> None:
    assert findings(source) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or weights, not text
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(text.splitlines(), start=1)
            if MACHINE_PATH.search(line)
        ]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(("folder", "bad"), [("home", True), ("root", True), ("Users", True), ("tmp", False)])
def test_a_path_of_one_machine_is_seen(folder: str, bad: bool) -> None:
    assert bool(MACHINE_PATH.search(f"see '/{folder}/someone/model'")) is bad
    assert not MACHINE_PATH.search(f"https://example.org/{folder}/page")
