"""What a run was made of: complete enough to explain a difference, silent about everything else."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from covey.records import code_version, environment, hash_file, hash_tree


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of two files inside a checkout with one commit."""
    root = tmp_path / "checkout/src/thing"
    (root / "part").mkdir(parents=True)
    (root / "__init__.py").write_text("x = 1\n")
    (root / "part/deep.py").write_text("y = 2\n")
    git(tmp_path, "init", "-q", "checkout")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_the_environment_names_machine_and_software() -> None:
    found = environment(threads=2, gpu="none")

    assert found["python"] == platform.python_version()
    assert found["packages"]["numpy"].count(".") == 2
    assert found["cpu"]["cores"] == os.cpu_count()
    assert 1 <= found["cpu"]["usable_cores"] <= found["cpu"]["cores"]
    assert found["cpu"]["model"]
    assert found["memory_bytes"] > 2**20
    assert (found["threads"], found["gpu"]) == (2, "none")


def test_the_environment_keeps_secrets_and_names_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(platform, "node", lambda: "the-host-name")
    text = json.dumps(environment())

    assert "hf_secret" not in text
    assert "the-host-name" not in text
    assert str(Path.home()) + "/" not in text


def test_the_code_version_has_the_commit_and_what_differs_from_it(package: Path) -> None:
    clean = code_version(package)
    (package / "__init__.py").write_text("x = 3\n")
    changed = code_version(package)

    assert clean["git"] == {"commit": git(package, "rev-parse", "HEAD"), "diff": ""}
    assert changed["git"]["commit"] == clean["git"]["commit"]
    assert "-x = 1\n+x = 3\n" in changed["git"]["diff"]
    assert changed["source_sha256"] != clean["source_sha256"]
    assert clean["version"] is None  # nothing named "thing" is installed


def test_a_package_that_only_lies_inside_a_checkout_is_not_credited_to_it(package: Path) -> None:
    installed = package.parent / "site-packages/thing"
    shutil.copytree(package, installed)

    assert code_version(installed)["git"] is None
    assert code_version(installed)["source_sha256"] == code_version(package)["source_sha256"]


def test_without_git_the_sources_are_still_hashed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_git = code_version(package)
    monkeypatch.setenv("PATH", "")

    assert code_version(package) == with_git | {"git": None}


def test_the_hash_of_a_folder_is_that_of_its_sha256sum_listing(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/model").write_bytes(b"abc")
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/when").write_text("today")
    # SHA-256 of the empty string and of "abc" (FIPS 180-2)
    listing = (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a.txt\n"
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  b/model\n"
    )

    assert hash_tree(tmp_path) == hashlib.sha256(listing.encode()).hexdigest()
    assert hash_file(tmp_path / "b/model") == listing.splitlines()[1].split()[0]
    assert hash_tree(tmp_path / "b/model") == hash_file(tmp_path / "b/model")


def test_a_renamed_file_changes_the_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("same")
    before = hash_tree(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")

    assert hash_tree(tmp_path) != before
